import math

import jax.numpy as jnp
import numpy as np
import optax
import torch

from rmae_jax.training.optimizer import adamw, learning_rate
from rmae_jax.training.recipe import Durations


def test_learning_rate_is_linear_then_cosine(config):
    config.base_lr, config.batch_size = 1.5e-4, 4096
    schedule, peak = learning_rate(config, Durations(100, 20)), 1.5e-4 * 16
    for step in range(101):
        expected = peak * step / 20 if step < 20 else peak * 0.5 * (1 + math.cos(math.pi * (step - 20) / 80))
        assert math.isclose(schedule(step), expected, rel_tol=1e-5, abs_tol=1e-9)


def test_adamw_is_that_of_pytorch_with_decay_on_matrices_alone(config):
    config.base_lr, config.batch_size, config.weight_decay = 0.1, 256, 0.05
    durations = Durations(10, 2)
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "scale": (3,), "cls_token": (1, 1, 4)}
    start = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    groups = [
        {"params": [theirs["kernel"], theirs["cls_token"]], "weight_decay": 0.05},
        {"params": [theirs["bias"], theirs["scale"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    ours, transform = {"layer": {k: jnp.asarray(v) for k, v in start.items()}}, adamw(config, durations)
    state, schedule = transform.init(ours), learning_rate(config, durations)
    for step in range(10):
        grads = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for name, weight in theirs.items():
            weight.grad = torch.tensor(grads[name])
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(step))
        optimizer.step()
        updates, state = transform.update({"layer": {k: jnp.asarray(v) for k, v in grads.items()}}, state, ours)
        ours = optax.apply_updates(ours, updates)
    for name, weight in theirs.items():
        assert np.allclose(ours["layer"][name], weight.detach().numpy(), rtol=1e-5, atol=1e-6), name
