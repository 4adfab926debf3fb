"""python -m rmae_jax.evaluate, evaluation.json, and evaluations inside of a run."""

import gc
import json

import pytest
from small_recipe import SMALL

from configs import rmae_tiny
from rmae_jax import checkpoint_loading, evaluate, pretrain
from rmae_jax.data import DatasetError
from rmae_jax.evaluate import __main__ as command
from rmae_jax.evaluate import results
from rmae_jax.evaluate.periodic import PeriodicEvaluation
from rmae_jax.training import ConfigError

TINY = SMALL | {
    "steps": 4,
    "log_every": 2,
    "checkpoint_every": 4,
    "model.depth": 1,
    "evaluate.every": 2,
    "evaluate.tasks": "completion,knn",
    "evaluate.region_layers": "label_maps",
}


def recipe(dataset, **changes):
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict(TINY | {"data.path": str(dataset)} | changes)
    return config


@pytest.fixture(scope="module")
def run(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pretrain(recipe(labelled), folder, evaluation=PeriodicEvaluation)
    yield folder
    gc.collect()  # of what Orbax leaves


def evaluations(run):
    return json.loads((run / "evaluation.json").read_text())["evaluations"]


def test_a_run_evaluates_itself(run, labelled):
    found = [one for one in evaluations(run) if one["options"] in ({"limit": 0}, evaluations(run)[1]["options"])]
    assert [(one["step"], one["task"]) for one in found] == [
        (2, "completion"),
        (2, "knn"),
        (4, "completion"),
        (4, "knn"),
    ]
    content = json.loads((run / "evaluation.json").read_text())
    assert content["config"]["model"]["width"] == 32
    assert found[0]["seed"] == 0 and found[0]["image_size"] == 32
    assert len(found[0]["data"]["held"]["fingerprint"]) == 8
    assert found[0]["data"]["held"]["region_layers"] == ["label_maps"]
    assert 0 <= found[1]["results"]["top1"] <= 1


def test_afterwards_the_same_is_found_and_takes_the_place_of_what_was(run, labelled, capsys):
    before = evaluations(run)
    arguments = [f"--checkpoint={run}", f"--data={labelled}", "--region_layers=label_maps"]
    command.main([*arguments, "--task=knn"])
    assert f"knn results of step 4 saved to {run / 'evaluation.json'}" in capsys.readouterr().out
    after = evaluations(run)
    assert len(after) == len(before)
    assert after[-1] == next(one for one in before if (one["step"], one["task"]) == (4, "knn"))
    command.main([*arguments, "--task=knn", "--k=3", "--image_size=48", "--seed=1"])
    assert evaluations(run)[-1]["options"]["k"] == 3
    assert len(evaluations(run)) == len(before) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=knn", "--k=0"], "error: k is 0"),
        (["--task=knn", "--image_size=33"], "error: images of 33 x 33 pixels cannot be cut into patches of 8"),
        (["--task=knn", "--split=test"], "no split 'test' here, only"),
        (["--task=knn", "--region_layers=sam"], "no region layer sam"),
    ],
)
def test_errors_are_one_line(run, labelled, arguments, message):
    with pytest.raises(SystemExit) as ended:
        command.main([f"--checkpoint={run}", f"--data={labelled}", *arguments])
    assert message in str(ended.value) and "\n" not in str(ended.value)


@pytest.fixture
def no_work(monkeypatch):
    """Fails where the checkpoint would be loaded."""
    monkeypatch.setattr(checkpoint_loading, "load", lambda checkpoint: pytest.fail("works before it has checked"))


def test_outputs_are_checked_first(run, labelled, tmp_path, no_work):
    (tmp_path / "old.json").write_text('{"evaluations": ')
    for output, message in (
        ("old.json", "old.json has no list of evaluations; move or delete the file"),
        ("old.json/new.json", "old.json cannot be written: .*; give another --output"),
    ):
        with pytest.raises(SystemExit, match=message):
            arguments = [f"--checkpoint={run}", f"--data={labelled}", "--task=knn", f"--output={tmp_path / output}"]
            command.main(arguments)


def test_a_dataset_without_what_a_task_needs_is_refused_first(run, photographs_without, no_work):
    flags = [f"--checkpoint={run}", f"--data={photographs_without}", "--split=train"]
    for task, lacks in (
        ("completion", "no region maps"),
        ("knn", "no classes of images"),
        ("linear", "no classes of images"),
        ("finetune", "no classes of images"),
        ("segmentation", "no pixel classes"),
    ):
        with pytest.raises(SystemExit, match=f"split 'train' has {lacks}; prepare it"):
            command.main([*flags, f"--task={task}"])


def test_results_can_be_written_elsewhere_and_are_printed_before(run, labelled, tmp_path, capsys, monkeypatch):
    before = (run / "evaluation.json").read_bytes()
    output = tmp_path / "new" / "results.json"
    arguments = [f"--checkpoint={run}", f"--data={labelled}", "--region_layers=label_maps", "--task=knn"]
    command.main([*arguments, f"--output={output}"])
    assert (run / "evaluation.json").read_bytes() == before
    (entry,) = results.read(output)
    assert entry["task"] == "knn"

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(results, "write", full)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="No space left"):
        command.main([*arguments, f"--output={output}"])
    assert json.loads(capsys.readouterr().out) == entry["results"]


@pytest.mark.parametrize("arguments", [[], ["--task=none"], ["--task=knn", "--checkpoint=x", "--data=y", "--epochs=3"]])
def test_wrong_flags(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m rmae_jax.evaluate" in capsys.readouterr().err


def test_help_tells_a_task_s_options(capsys):
    with pytest.raises(SystemExit):
        command.main(["--task=finetune", "--help"])
    told = capsys.readouterr().out
    assert "--layer_decay" in told and "MAE: 0.65 (B)" in told
    assert list(command.TASKS) == list(evaluate.TASKS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluate.tasks": "knn,neighbours"},
            "evaluate.tasks: unknown task neighbours; the tasks are completion, knn",
        ),
        ({"evaluate.every": -1}, "evaluate.every is -1"),
        ({"evaluate.tasks": ""}, "evaluate.tasks is empty"),
        ({"model.objective": "mae"}, 'the "mae" objective has no region branch'),
        ({"evaluate.every": -1, "init_from": "none.pth", "data.path": "none"}, "evaluate.every is -1"),  # known first
    ],
)
def test_recipes_that_cannot_work(labelled, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        pretrain(recipe(labelled, **changes), tmp_path / "run", evaluation=PeriodicEvaluation)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_evaluations_must_fail_is_refused_before_its_first_step(labelled, photographs_without, tmp_path):
    run = tmp_path / "run"
    keys = {"evaluate.path": str(photographs_without), "evaluate.split": "train", "evaluate.region_layers": ""}
    with pytest.raises(DatasetError, match="no classes of images"):
        pretrain(recipe(labelled, **keys | {"evaluate.tasks": "knn"}), run, evaluation=PeriodicEvaluation)
    assert not run.exists()
    run.mkdir()
    (run / "evaluation.json").write_text("[]")
    with pytest.raises(ConfigError, match="has no list of evaluations"):
        pretrain(recipe(labelled), run, evaluation=PeriodicEvaluation)


def test_a_file_that_holds_no_evaluations(tmp_path):
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(ValueError, match="has no list of evaluations; move or delete the file"):
        results.read(tmp_path / "evaluation.json")
