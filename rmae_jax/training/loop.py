"""The pre-training loop."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import ml_collections
from jax.sharding import Mesh
from jaxtyping import PyTree

from data_prep.storage.atomic_write import remove_unfinished
from data_prep.storage.paths import local_path
from rmae_jax import data
from rmae_jax.data.examples import Example
from rmae_jax.runtime import host_consistency, hosts
from rmae_jax.runtime.devices import devices
from rmae_jax.runtime.signals import Interrupted, SharedStopSignal, StopSignals
from rmae_jax.training import recipe
from rmae_jax.training.bad_records import SkippedRecords, list_images
from rmae_jax.training.checkpoints import Checkpoints
from rmae_jax.training.init_weights import initial_model
from rmae_jax.training.loss_buffer import LossBuffer, NonFiniteLoss
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.metrics import MetricsWriter
from rmae_jax.training.optimizer import adamw, learning_rate
from rmae_jax.training.recipe import ConfigError
from rmae_jax.training.run_dataset import check_regions, dataset_folder, region_filter, region_layers
from rmae_jax.training.run_lock import lock_run
from rmae_jax.training.sample_pictures import SamplePictures
from rmae_jax.training.step import TrainState, abstract_state, init_state, train_step


class TrainingError(RuntimeError):
    """Training cannot continue."""


@runtime_checkable
class Evaluation(Protocol):
    """The interface of an evaluation during training; `rmae_jax.evaluate.periodic` implements it."""

    def __init__(self, config: ml_collections.ConfigDict, run: Path):
        """Prepares the evaluation that config.evaluate requests; `run` is the run folder."""

    @staticmethod
    def check(config: ml_collections.ConfigDict) -> None:
        """Raises ConfigError if a key of config.evaluate has an invalid value."""

    def after_step(self, step: int, params: PyTree[jax.Array], mesh: Mesh, *, last: bool) -> None:
        """Evaluates if due. Called on all hosts after each step."""


@contextmanager
def _with_remedies() -> Iterator[None]:
    """Adds the remedy to errors of records, files and devices."""
    try:
        yield
    except data.RecordError as error:
        raise data.RecordError(f"{error}; --config.data.on_error=skip continues without it") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            f"{error}; free some space, then run the same command: it resumes from the last checkpoint"
        ) from error
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not hosts.is_device_error(error):
            raise
        if "RESOURCE_EXHAUSTED" in str(error):
            raise TrainingError(
                f"a step does not fit the devices' memory ({hosts.first_line(error)}); give --config.remat=attention "
                "or full, more --config.accumulation_steps, or a larger --config.mesh.fsdp"
            ) from error
        if hosts.several():
            raise hosts.lost_host_error(error) from error
        raise


@_with_remedies()
def pretrain(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    *,
    evaluation: type[Evaluation] | None = None,
    stop_signals: StopSignals | None = None,
) -> TrainState:
    """Pre-trains a model with a recipe and writes all results to the run folder.

    Resumes from the run's newest intact checkpoint. The folder gets config.json, metrics.jsonl, tensorboard/,
    checkpoints/, pictures/, losses.png and, if the recipe requests it, evaluation.json; for bad records and losses,
    skipped.jsonl and nonfinite-STEP.txt. The folder is locked during training. With several hosts (see
    `rmae_jax.runtime.hosts.connect_hosts`), all of them call this function and share the folder.

    Args:
      config: the recipe.
      workdir: the run folder, created if it does not exist.
      evaluation: the class of the evaluation that config.evaluate requests.
      stop_signals: a context for the training; after a signal, the state is saved and `Interrupted` raised. With None,
        the process's signal handlers stay as they are.

    Raises:
      ConfigError: the recipe is invalid, the folder holds a run with another recipe, or another process trains there.
      DatasetError: the dataset cannot be used or is corrupt.
      DeviceError: JAX cannot start its devices.
      HostError: hosts differ, or one was lost.
      InteropError: the weights of init_from cannot be used.
      TrainingError: a loss is not finite, a step does not fit the memory, or the disk is full.
      CheckpointError: a checkpoint cannot be written, or all of them are corrupt.
      Interrupted: a signal stopped the run; the state was saved.
    """
    run = local_path(workdir)
    host_consistency.check_equal(host_consistency.program() | recipe.shared_keys(config), "versions and config")
    recipe.check(config, len(devices()))
    if evaluation is None and config.evaluate.every:
        raise ConfigError(
            "evaluate.every is set; pass evaluation=rmae_jax.evaluate.periodic.PeriodicEvaluation to pretrain"
        )
    if evaluation is not None:
        evaluation.check(config)
    mesh = training_mesh(config)
    config, model = initial_model(config, run)
    recipe.check_resumed(config, run)

    # Data.
    folder, layers = dataset_folder(config, run), region_layers(config)
    source = data.TFRecordSource(folder, config.data.split, layers)
    held_out = data.TFRecordSource(folder, config.data.picture_split, layers)
    if config.model.objective != "mae":
        check_regions(source)
    durations = recipe.durations(config, len(source))
    view = {
        "image_size": config.model.image_size,
        "num_regions": 0 if config.model.objective == "mae" else config.model.num_regions,
    }
    pictures = SamplePictures(config, run, held_out, **view)
    evaluate = None if evaluation is None else evaluation(config, run)
    if hosts.several():  # a single host need not compute the crc of an index that may be gigabytes
        facts = {f"split {s.split}": f"{len(s)} records, crc {s.fingerprint}" for s in (source, held_out)}
        host_consistency.check_equal(facts, "datasets")

    # State.
    optimizer = adamw(config, durations)
    with lock_run(run), Checkpoints(run) as checkpoints, stop_signals or nullcontext(StopSignals()) as stop:
        if hosts.is_first():
            (run / "pictures").mkdir(exist_ok=True)
            for written in (run, run / "pictures"):
                remove_unfinished(written)
            recipe.save(config, run)
        host_consistency.check_shared(run)
        host_consistency.check_equal({"newest checkpoint": str(checkpoints.latest_step)}, "checkpoints")
        if checkpoints.latest_step is None:
            state = init_state(config, optimizer, mesh, model)
        else:
            state = checkpoints.restore(abstract_state(config, optimizer, mesh))
            hosts.print_once(f"resumed from {checkpoints.path(int(state.step))}")
        start = int(state.step)
        if start == durations.steps:
            hosts.print_once(f"the run in {run} is complete ({start} steps); use another --workdir for a new run")
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
            on_error=config.data.on_error,
            **view,
        )
        _describe(config, state, durations.steps, len(source), mesh)
        step_fn = train_step(config, optimizer, mesh)
        writing = MetricsWriter(run, start, durations.steps) if hosts.is_first() else nullcontext()
        with writing as writer:
            losses = LossBuffer(writer, learning_rate(config, durations), config.batch_size)
            skipped, stopped = SkippedRecords(run, source, start), SharedStopSignal(stop, mesh)
            for step in range(start + 1, durations.steps + 1):
                batch: Example = next(batches)
                num_skipped = skipped.add(step, batch)
                state, step_losses = step_fn(state, to_devices(batch, mesh))
                signum, last = stopped.after_step(), step == durations.steps
                try:
                    write = step % config.log_every == 0 or last
                    losses.add(step, step_losses, batch["record"], write, num_skipped)
                    if step % config.checkpoint_every == 0 or last or signum:
                        losses.flush()  # before saving: no bad state is saved, and no earlier line lost
                        checkpoints.save(state)
                    checkpoints.check()
                except NonFiniteLoss as error:
                    images = list_images(run, source, error.step, error.records)
                    host_consistency.check_equal({}, "listing images")  # the first host to exit ends the others
                    raise TrainingError(
                        f"{error}; {images}; {checkpoints.last_good}; inspect the data, or use a smaller "
                        "--config.base_lr in another --workdir"
                    ) from error
                if writer is not None:
                    writer.advance()
                if step % config.pictures_every == 0 or last:
                    pictures.draw(step, state.params, mesh)
                if evaluate is not None:
                    evaluate.after_step(step, state.params, mesh, last=last)
                if signum and not last:
                    raise Interrupted(signum, f"stopped after step {step}; the same command resumes from there")
    hosts.print_once(f"{durations.steps} steps done; pictures, losses.png and checkpoints are in {run}")
    return state


def _describe(config: ml_collections.ConfigDict, state: TrainState, steps: int, num_examples: int, mesh: Mesh) -> None:
    millions = sum(x.size for x in jax.tree.leaves(state.params)) / 1e6
    others = f" of {jax.process_count()} hosts" if hosts.several() else ""
    hosts.print_once(
        f"{config.model.objective}: {millions:.1f} M parameters, {num_examples} training images, {steps} steps of "
        f"{config.batch_size} images on {mesh.size} {jax.devices()[0].device_kind} device(s){others}"
    )
