import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rmae_jax.training.tensorboard import EventsWriter

STEPS = (1, 127, 128, 300, 10**6)


def shown(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of each name."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_reads_what_was_written(tmp_path):
    events = EventsWriter(tmp_path, 1)
    for step in STEPS:
        events.scalars(step, {"loss": 1 / step, "rate": -1e9})
    events.close()
    assert shown(tmp_path) == {
        "loss": [(step, pytest.approx(1 / step)) for step in STEPS],
        "rate": [(step, -1e9) for step in STEPS],
    }


def test_steps_that_are_done_again_replace_those_before(tmp_path):
    for start, value, process in ((1, 1.0, "a"), (300, 2.0, "b")):
        events = EventsWriter(tmp_path, start)
        for step in STEPS:
            if step >= start:
                events.scalars(step, {"loss": value})
        events.close()
        (written,) = [file for file in tmp_path.iterdir() if file.suffix not in (".a", ".b")]
        written.rename(f"{written}.{process}")  # as if by another
    assert shown(tmp_path)["loss"] == [(1, 1.0), (127, 1.0), (128, 1.0), (300, 2.0), (10**6, 2.0)]
