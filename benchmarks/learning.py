"""Comparison of MAE, RAE and R-MAE trained on the same photographs: three seeds each, about an hour on two cores.

    python -m benchmarks.learning --output=RUNS [--steps=800] [--seeds=3]

Creates the dataset of benchmarks/composites.py (benchmarks/package_photographs.py lists the packages it needs),
pre-trains the model of configs/rmae_tiny.py on it with each objective, and evaluates every run on composites of scenes
and objects that it has never seen: by region completion (RAE and R-MAE) and by a segmentation probe, which is also run
on an encoder with initial weights. Writes RUNS/table.md with mean and standard deviation over the seeds; all other
results are in the run folders. An interrupted benchmark resumes when it is run again.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx

import rmae_jax
from benchmarks import composites
from benchmarks.package_photographs import cutouts, others, scenes
from configs import rmae_tiny
from data_prep import job
from rmae_jax.data import TFRecordSource
from rmae_jax.evaluate import CompletionTask, EvaluationData, SegmentationProbe, results
from rmae_jax.evaluate.completion import METHODS, VISIBLE_RATIOS
from rmae_jax.runtime.allocator import keep_freed_memory
from rmae_jax.runtime.compilation_cache import enable_compilation_cache
from rmae_jax.runtime.signals import Interrupted, StopSignals

OBJECTIVES = ("mae", "rae", "rmae")
NAMES = {"initial": "initial weights", "mae": "MAE", "rae": "RAE", "rmae": "R-MAE"}
PROBE = SegmentationProbe(epochs=20.0, base_lr=4e-2)
SCALES = (100, 200, 400)  # FH's scales, for photographs of 192 to 320 pixels


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for data, runs and table")
    parser.add_argument("--steps", type=int, default=800, help="training steps of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each objective (default: %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    enable_compilation_cache()
    dataset = _prepare(arguments.output)
    for seed in range(arguments.seeds):
        for objective in OBJECTIVES:
            run, config = arguments.output / f"{objective}_{seed}", recipe(objective, seed, arguments.steps, dataset)
            rmae_jax.pretrain(config, run, stop_signals=StopSignals())
            model, _ = rmae_jax.load(run)
            evaluate_run(model, config, run, arguments.steps, dataset)
        config, run = recipe("mae", seed, arguments.steps, dataset), arguments.output / f"initial_{seed}"
        run.mkdir(exist_ok=True)
        evaluate_run(jax.jit(lambda: rmae_jax.RMAE(config.model, rngs=nnx.Rngs(seed)))(), config, run, 0, dataset)  # noqa: B023
    table = tabulate(arguments.output, arguments.seeds)
    (arguments.output / "table.md").write_text(table)
    print(table)


def _prepare(output: Path) -> Path:
    """Creates photographs, composites and their dataset, reusing existing files; returns the dataset's folder."""
    photographs, dataset = output / "photographs", output / "dataset"
    if not (photographs / "SOURCES").exists():
        composites.write(photographs, scenes(), cutouts(), others(), seed=0)
    job.prepare(photographs / "train", dataset, split="train", scales=SCALES)
    for split in ("probe_train", "probe_test"):
        truth = f"label_maps:{photographs / f'{split}_instances'},semantic:{photographs / f'{split}_classes'}"
        job.prepare(photographs / split, dataset, split=split, regions=truth)
    return dataset


def recipe(objective: str, seed: int, steps: int, dataset: Path) -> ml_collections.ConfigDict:
    """Returns configs/rmae_tiny.py for an objective, a seed and this dataset."""
    config = rmae_tiny.get_config()
    config.update({"seed": seed, "steps": steps, "warmup_steps": steps // 10})
    config.update({"checkpoint_every": steps, "pictures_every": steps})
    config.data.update({"path": str(dataset), "shipped_photographs": False, "picture_split": "train"})
    config.model.objective = objective
    return config


def evaluate_run(model: rmae_jax.RMAE, config: ml_collections.ConfigDict, run: Path, step: int, dataset: Path) -> None:
    """Runs the tasks whose results are missing from RUN/evaluation.json and adds them."""
    tasks = {"segmentation": (PROBE, "semantic")}
    if model.config.objective != "mae":
        tasks["completion"] = (CompletionTask(), "label_maps")
    for name in tasks.keys() - {one["task"] for one in results.read(run / "evaluation.json")}:
        task, layer = tasks[name]
        train, held_out = (TFRecordSource(dataset, split, [layer]) for split in ("probe_train", "probe_test"))
        data = EvaluationData(train, held_out, config.seed)
        found = task(model, data)
        print(f"{run.name}: {name} {json.dumps(found)}", flush=True)
        results.write(run / "evaluation.json", config, results.build_entry(name, task, model, step, data, found))


def tabulate(output: Path, seeds: int) -> str:
    """Returns the tables: mean and standard deviation over the seeds, in percent."""
    found = {
        (name, seed): {
            one["task"]: one["results"] for one in results.read(output / f"{name}_{seed}" / "evaluation.json")
        }
        for name in NAMES
        for seed in range(seeds)
    }
    lines = [
        f"Mean and standard deviation over {seeds} seeds, in percent.\n",
        "| segmentation probe | mean IoU | pixel accuracy |\n|---|---|---|",
    ]
    for name, title in NAMES.items():
        of_seeds = [found[name, seed]["segmentation"] for seed in range(seeds)]
        cells = (_cell([one[key] for one in of_seeds]) for key in ("mean_iou", "pixel_accuracy"))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    rows = [("rmae", "model", "R-MAE"), ("rae", "model", "RAE")]
    rows += [
        ("rae", method, f"{method}: {what}")
        for method, what in zip(METHODS[1:], ("visible pixel", "inside"), strict=True)
    ]
    ratios = [f"{ratio:.0%}" for ratio in VISIBLE_RATIOS]
    for score, title in (("iou", "IoU of hidden pixels"), ("boundary_f", "boundary F of hidden pixels")):
        lines.append(f"\n| {title}, visible: | {' | '.join(ratios)} |\n|---|{'---|' * len(ratios)}")
        for name, method, row in rows:
            of_seeds = [found[name, seed]["completion"] for seed in range(seeds)]
            cells = (_cell([one[ratio][f"{method}_{score}"] for one in of_seeds]) for ratio in ratios)
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1 if len(values) > 1 else 0):.1f}"


if __name__ == "__main__":
    try:
        main()
    except Interrupted as stopped:
        sys.exit(str(stopped))
