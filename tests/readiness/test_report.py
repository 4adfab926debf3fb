"""Numbers, advice, tables and errors of the report; nothing is compiled here."""

import pytest

from configs import rmae_b
from rmae_jax.readiness import compare, compiled_step, report, tables, topologies
from rmae_jax.readiness.advice import ladder
from rmae_jax.readiness.chips import CHIPS, GIB

FOUND = {
    "params": 4 * 10**8,
    "optimizer": 8 * 10**8,
    "batch": 16 * 200_000,
    "num_params": 10**8,
    "flops": 10**12,
    "model_flops": 8 * 10**11,
    "versions": {"jax": "0"},
}
FITS = FOUND | {
    "memory": {"arguments": 12 * 10**8, "temporaries": 2 * GIB, "program": 0, "peak": 4 * GIB},
    "traffic": 10**10,
    "cycles": 60_000_000,
    "kernels": 40,
    "collectives": {"all-reduce": {"count": 4, "bytes": 4 * 10**8, "sent": 8 * 10**8}},
    "compile_seconds": 1.0,
}
TOO_LARGE = FOUND | {"needed": 34 * GIB, "available": 16 * GIB}


def recipe(**changes):
    config = rmae_b.get_config()
    config.update_from_flattened_dict(changes)
    return config


def test_what_follows_from_cycles():
    row = report.numbers(FITS, recipe(), topologies.parse("v5e:16x16"), 118_287)
    assert row["seconds"]["compute"] == 60e6 / 1.5e9
    assert row["seconds"]["links"] == 8e8 / 200e9
    assert row["seconds"]["step"] == pytest.approx(0.044)
    assert row["seconds"]["bound"] == pytest.approx(1e10 / 819e9 + 0.004)  # memory, not products
    assert row["images_per_second"] == pytest.approx(4096 / 0.044)
    assert row["mfu"] == pytest.approx(8e11 / 0.044 / 197e12)
    assert row["hosts"] == 64
    assert row["images_per_second_and_host"] == pytest.approx(4096 / 0.044 / 64)
    assert row["bytes_per_second_and_host"] == pytest.approx(4096 / 0.044 / 64 * 200_000)
    assert row["steps"] == 115_515
    assert row["days"] == pytest.approx(115_515 * 0.044 / 86400)
    assert row["chip_hours"] == pytest.approx(row["days"] * 24 * 256)


def test_without_cycles_there_is_a_bound():
    row = report.numbers(FITS | {"cycles": None}, recipe(steps=10), topologies.parse("h100:8"), 1)
    assert row["at_most"]
    assert row["seconds"]["step"] is None
    assert row["steps"] == 10
    text = tables.table([row])
    assert "| at most " in text
    assert "| at least 0.00" in text
    assert "| not given" in text


def test_advice_for_what_does_not_fit():
    row = report.numbers(TOO_LARGE, recipe(), topologies.parse("v5e:4x4"), 118_287)
    assert not row["fits"]
    text = "\n".join(row["advice"])
    assert "--config.remat=attention or --config.remat=full, at a greater cost (--fit compiles all of these" in text
    assert "--config.accumulation_steps=4: about 9.3 GiB" in text  # (34 - 1.1) / 4 + 1.1
    assert "--config.batch_size=1744 (109 images per chip), or at least 38 chips for 4096" in text
    assert "fsdp" not in text  # state is a small part
    state = TOO_LARGE | {"params": 3 * GIB, "optimizer": 6 * GIB}
    text = "\n".join(report.numbers(state, recipe(remat="full"), topologies.parse("v5e:4x4"), 118_287)["advice"])
    assert "--config.mesh.fsdp=16: parameters and optimiser take about 0.6 GiB instead of 9.0 GiB" in text
    assert "remat" not in text


def test_input_that_the_hosts_cannot_make():
    row = report.numbers(FITS | {"cycles": 6_000_000}, recipe(), topologies.parse("v5e:4x4"), 118_287)
    assert row["input_cores"] > 56
    assert "the step will wait for data" in row["advice"][0]


def test_what_is_tried_until_a_step_fits():
    assert ladder(recipe(batch_size=64), 16) == [
        {"accumulation_steps": 2},
        {"accumulation_steps": 4},
        {"accumulation_steps": 4, "blocks": "scanned", "remat": "attention"},
        {"accumulation_steps": 4, "blocks": "scanned", "remat": "full"},
    ]
    assert ladder(recipe(batch_size=16, remat="full"), 16) == []


def test_fit_goes_on_until_a_step_fits():
    requested = [topologies.parse("v5e:4x4"), topologies.parse("v5e:16x16")]
    tried = []

    def measure(config, topology):
        tried.append((topology.name, config["remat"], config["accumulation_steps"]))
        return FITS if topology.num_chips == 256 or config["accumulation_steps"] == 4 else TOO_LARGE

    rows = list(compare.rows(recipe(), requested, 118_287, fit=True, measure=measure))
    small = [("v5e:4x4", "none", 1), ("v5e:4x4", "none", 2), ("v5e:4x4", "none", 4)]
    assert tried == [*small, ("v5e:16x16", "none", 1)]
    assert [row["fits"] for row in rows] == [False, False, True, True]
    assert [row["accumulation_steps"] for row in rows] == [1, 2, 4, 1]
    tried.clear()
    assert [row["fits"] for row in compare.rows(recipe(), requested, 118_287, measure=measure)] == [False, True]


def test_one_table_of_several_topologies():
    rows = [
        report.numbers(TOO_LARGE, recipe(), topologies.parse("v5e:4x4"), 118_287),
        report.numbers(FITS, recipe(), topologies.parse("v5e:16x16"), 118_287),
    ]
    text = tables.table(rows)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert {line.count("|") for line in lines} == {4}
    assert "DOES NOT FIT: 34.0 of 16.0 | 4.00 of 16" in text
    assert "4 all-reduce: 400 MB" in text
    assert "What would help:\n\n- v5e:4x4, remat none: --config.accumulation_steps=4" in text


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (33.46G) "
            "exceeds available HBM (15.75G).",
            (int(33.46 * GIB), int(15.75 * GIB)),
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
            "Used 20.10G of 15.75G hbm. Exceeded hbm capacity by 4.35G.",
            (int(20.1 * GIB), int(15.75 * GIB)),
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem", None),
        ("INTERNAL: Used 20.10G of 15.75G hbm", None),
    ],
)
def test_complaints_about_memory(message, sizes):
    assert compiled_step.memory_error(message) == sizes


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_chips_are_possible(chip):
    assert 1e14 < chip.peak < 1e15
    assert 16 * GIB <= chip.memory <= 95 * GIB
    assert 100 < chip.peak / chip.bandwidth < 600  # FLOPs that a byte has to be worth
    assert chip.link < chip.bandwidth
    assert (chip.clock is None) == (chip.platform == "cuda")
    if chip.clock:  # of matrix units of 128 x 128: 4 per core, and as many as 16 of them
        units = chip.peak / chip.clock / (2 * 128 * 128)
        assert min(abs(units / n - 1) for n in (4, 8, 16)) < 0.01


@pytest.mark.parametrize(
    ("name", "chips", "hosts"),
    [("v5e:16x16", 256, 64), ("v5e:1x1", 1, 1), ("v5p:2x2x4", 16, 4), ("h100:8", 8, 1), ("h100:32", 32, 4)],
)
def test_topologies(name, chips, hosts):
    topology = topologies.parse(name)
    assert (topology.num_chips, topology.num_hosts) == (chips, hosts)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "CHIP:SHAPE, for example v5e:16x16"),
        ("v9:2x2", "one of v4, v5e, v5p, v6e, h100, a100"),
        ("v5e:2x2x2", "v5e needs a shape like that of v5e:4x4"),
        ("v5p:2x2", "v5p needs a shape like that of v5p:2x2x4"),
        ("h100:2x4", "h100 needs a shape like that of h100:8"),
        ("v5e:32x32", "has 1024 chips; v5e has at most 256"),
        ("v5e:3x6", "a host has 2 x 2 chips"),
        ("h100:12", "more than 8 GPUs must be a multiple of 8"),
    ],
)
def test_topologies_that_are_not(name, message):
    with pytest.raises(topologies.TopologyError, match=message):
        topologies.parse(name)


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(topologies.TopologyError, match=r"needs libtpu: pip install -e .\[tpu\]"):
        topologies.check_installed(topologies.parse("v5e:2x2"))
    with pytest.raises(topologies.TopologyError, match=r"needs jax_cuda13_plugin: pip install -e .\[cuda\]"):
        topologies.check_installed(topologies.parse("h100:8"))
