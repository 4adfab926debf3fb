"""Evaluates a checkpoint on one task and adds the result to the run's evaluation.json.

    python -m rmae_jax.evaluate --checkpoint=RUN --task=TASK --data=DATASET [--OPTION=VALUE]

For the options of a task: --task=TASK --help
"""

import argparse
import dataclasses
import inspect
import json
import sys

from data_prep.storage.paths import local_path

TASKS = {
    "completion": "region completion from 5 to 50 % of the patches, compared with two simple rules: IoU and boundary F",
    "knn": "image classification by the nearest neighbours among frozen features",
    "linear": "image classification by a linear layer on frozen features (MAE's protocol)",
    "segmentation": "semantic segmentation by a linear layer on frozen features: mean IoU",
    "finetune": "image classification after training all weights (MAE's recipe)",
}


def main(argv: list[str] | None = None) -> None:
    """Runs the evaluation that the command line requests."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    task_parser = argparse.ArgumentParser(parser.prog, add_help=False, allow_abbrev=False)
    task_parser.add_argument("--task", choices=TASKS)
    name = task_parser.parse_known_args(argv)[0].task
    if name is None:
        parser.parse_args(argv)  # prints the error or the help, and exits

    # Imported here, so that a missing task is reported at once.
    from rmae_jax.data import DatasetError
    from rmae_jax.evaluate import TASKS as classes
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.training import CheckpointError, ConfigError

    silence_libraries()

    _add_options(parser, name, classes[name])
    arguments = parser.parse_args(argv)
    names = [field.name for field in dataclasses.fields(classes[name])]
    task = classes[name](**{one: getattr(arguments, one) for one in names})
    try:
        _evaluate(name, task, arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigError, CheckpointError, DatasetError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rmae_jax.evaluate",
        description=__doc__,
        epilog="\n".join(f"{name:13} {what}" for name, what in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", required=True, type=local_path, help="a run folder (newest step) or one step's folder"
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--data", required=True, type=local_path, help="a dataset that data_prep wrote")
    parser.add_argument("--train_split", default="train", help="the split to train on (default: %(default)s)")
    parser.add_argument("--split", default="validation", help="the split to evaluate on (default: %(default)s)")
    parser.add_argument("--region_layers", default="", help="label-map layers to use, as a,b (default: all)")
    parser.add_argument("--image_size", type=int, help="image size in pixels (default: the model's)")
    parser.add_argument("--output", type=local_path, help="JSON file to add results to (default: RUN/evaluation.json)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: %(default)s)")
    return parser


def _add_options(parser: argparse.ArgumentParser, name: str, task: type) -> None:
    group = parser.add_argument_group(f"options of {name}", inspect.getdoc(task))
    for field in dataclasses.fields(task):
        group.add_argument(f"--{field.name}", type=field.type, default=field.default, help="(default: %(default)s)")


def _evaluate(name: str, task: object, arguments: argparse.Namespace) -> None:
    from rmae_jax import checkpoint_loading
    from rmae_jax.data import TFRecordSource
    from rmae_jax.evaluate import EvaluationData, results
    from rmae_jax.training.recipe import names

    layers = names(arguments.region_layers)
    held_out = TFRecordSource(arguments.data, arguments.split, layers)
    train = held_out if name == "completion" else TFRecordSource(arguments.data, arguments.train_split, layers)
    report = _PhaseProgress()
    data = EvaluationData(train, held_out, arguments.seed, report)
    task.check(data)
    run, step = checkpoint_loading.run_and_step(arguments.checkpoint)
    output = arguments.output or run / "evaluation.json"
    results.check_writable(output)
    model, config = checkpoint_loading.load(arguments.checkpoint)
    if arguments.image_size is not None:
        model = model.at_size(arguments.image_size, arguments.image_size)
    try:
        found = task(model, data)
    finally:
        report.close()
    print(json.dumps(found, indent=2), flush=True)
    results.write(output, config, results.build_entry(name, task, model, step, data, found))
    print(f"{name} results of step {step} saved to {output}")


class _PhaseProgress:
    """Progress reporter for work in several phases, each of which counts from 0."""

    def __init__(self):
        self._reporter = None

    def __call__(self, done: int, total: int) -> None:
        from data_prep import progress

        if done == 0:
            self.close()
            self._reporter = progress.reporter("step")
        self._reporter(done, total)

    def close(self) -> None:
        """Ends the current phase."""
        if self._reporter is not None:
            self._reporter.close()


if __name__ == "__main__":
    main()
