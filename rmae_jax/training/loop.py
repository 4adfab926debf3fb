"""The pre-training loop."""

from contextlib import closing
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from rmae_jax import data
from rmae_jax.model import RMAE
from rmae_jax.training import config as recipe
from rmae_jax.training import pictures
from rmae_jax.training.checkpoints import Checkpoints
from rmae_jax.training.dataset import dataset_folder, region_filter, region_layers
from rmae_jax.training.initial import initial_model
from rmae_jax.training.losses import LateLosses, NonFiniteLoss
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.metrics import MetricsWriter, draw_losses, naming
from rmae_jax.training.optimizer import adamw, learning_rate
from rmae_jax.training.signals import Interrupted, StopSignals
from rmae_jax.training.step import TrainState, abstract_state, init_state, train_step

SHOWN = 6  # photographs in a picture


class TrainingError(RuntimeError):
    """Training cannot go on."""


def pretrain(config: ml_collections.ConfigDict, workdir: str | Path) -> TrainState:
    """Pre-trains a model by a recipe and leaves everything about it in the run's folder.

    Goes on where the run's newest checkpoint ends. The folder gets config.json, metrics.jsonl, tensorboard/,
    checkpoints/, pictures/ and losses.png.

    Raises:
      ConfigError: the recipe cannot work, or the folder holds a run of another recipe.
      DatasetError: the dataset cannot be used or is damaged.
      InteropError: the weights of init_from cannot be used.
      TrainingError: a loss is not finite.
      CheckpointError: a checkpoint cannot be written, or all of them are damaged.
      Interrupted: a signal asked to stop; the state was saved.
    """
    run = Path(workdir)
    recipe.check(config, jax.device_count())
    mesh = training_mesh(config)
    config, model = initial_model(config, run)
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: RMAE(config.model, rngs=nnx.Rngs(0))))
    recipe.check_resumed(config, run)

    # Data.
    folder = dataset_folder(config, run)
    layers = region_layers(config)
    source = data.TFRecordSource(folder, config.data.split, layers)
    durations = recipe.durations(config, len(source))
    view = {
        "image_size": config.model.image_size,
        "num_regions": 0 if config.model.objective == "mae" else config.model.num_regions,
    }
    held = data.TFRecordSource(folder, config.data.picture_split, layers)
    spread = np.linspace(0, len(held) - 1, min(SHOWN, len(held))).astype(int).tolist()
    shown = data.center_examples(held, spread, seed=config.seed, **view)

    # State.
    optimizer = adamw(config, durations)
    (run / "pictures").mkdir(parents=True, exist_ok=True)
    recipe.save(config, run)
    with closing(Checkpoints(run)) as checkpoints, StopSignals() as stop:
        if checkpoints.latest_step is None:
            state = init_state(config, optimizer, mesh, model)
        else:
            state = checkpoints.restore(abstract_state(config, optimizer, mesh))
            print(f"resumed from {checkpoints.path(checkpoints.latest_step)}")
        start = int(state.step)
        if start == durations.steps:
            print(f"the run in {run} is complete ({start} steps); give another --workdir to train anew")
            return state
        batches = data.batches(
            source,
            seed=config.seed,
            batch_size=config.batch_size,
            start_step=start,
            host=jax.process_index(),
            num_hosts=jax.process_count(),
            workers=config.data.workers,
            region_filter=region_filter(config),
            **view,
        )
        _describe(config, state, durations.steps, len(source), mesh)

        # Steps.
        step_fn = train_step(config, optimizer, mesh)
        with MetricsWriter(run, start, durations.steps) as writer:
            losses = LateLosses(writer, learning_rate(config, durations), config.batch_size)
            for step in range(start + 1, durations.steps + 1):
                state, step_losses = step_fn(state, to_devices(next(batches), mesh))
                last = step == durations.steps
                try:
                    losses.add(step, step_losses, write=step % config.log_every == 0 or last)
                    if step % config.checkpoint_every == 0 or last or stop.received:
                        losses.flush()  # first: a bad state must not be saved, nor a line before a save be lost
                        checkpoints.save(state)
                    checkpoints.check()
                except NonFiniteLoss as error:
                    raise TrainingError(_advice(error, checkpoints)) from error
                writer.advance()
                if step % config.pictures_every == 0 or last:
                    trained = nnx.merge(graphdef, state.params)
                    picture = run / "pictures" / f"{step:07d}.png"
                    with naming(picture):
                        pictures.draw(trained, shown["images"], shown.get("regions"), picture, config.seed)
                    with naming(run / "losses.png"):
                        draw_losses(writer.path, run / "losses.png")
                if stop.received and not last:
                    raise Interrupted(stop.received, f"stopped after step {step}; the same command goes on from there")
    print(f"{durations.steps} steps done; pictures, losses.png and checkpoints are in {run}")
    return state


def _describe(config: ml_collections.ConfigDict, state: TrainState, steps: int, num_examples: int, mesh: Mesh) -> None:
    millions = sum(x.size for x in jax.tree.leaves(state.params)) / 1e6
    print(
        f"{config.model.objective}: {millions:.1f} M parameters, {num_examples} photographs, {steps} steps of "
        f"{config.batch_size} images on {mesh.size} {jax.devices()[0].device_kind} device(s)",
        flush=True,
    )


def _advice(error: NonFiniteLoss, checkpoints: Checkpoints) -> str:
    step = checkpoints.latest_step
    good = "there is no checkpoint yet" if step is None else f"the last good checkpoint is {checkpoints.path(step)}"
    return f"{error}; {good}; look at the data, or give a smaller --config.base_lr in another --workdir"
