"""Checks that all hosts run the same code, config and data: differences would cause a hang, or go unnoticed."""

import hashlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import jax

from rmae_jax.runtime import hosts
from rmae_jax.runtime.private_apis import coordinator_address, key_value_store, num_processes, process_id

ANSWER_SECONDS = 300  # within which all hosts must answer
SEEN_SECONDS = 10  # within which network file systems must show new files
SHOWN = 5  # hosts that a message names at most
PACKAGES = ("data_prep", "rmae_jax")
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def program() -> dict[str, str]:
    """Returns the versions of this host's libraries and a hash of its code, as facts for `check_equal`."""
    code = hashlib.sha256()
    packages = Path(__file__).parents[2]
    for file in sorted(file for name in PACKAGES for file in (packages / name).rglob("*.py")):
        code.update(file.read_bytes())
    return {name: version(name) for name in LIBRARIES} | {"code": code.hexdigest()[:8]}


def check_equal(facts: dict[str, str], topic: str) -> None:
    """Checks that all hosts have the same facts; waits for all of them.

    Args:
      facts: this host's facts, by name.
      topic: a name for this exchange, which no other exchange has.

    Raises:
      hosts.HostError: facts differ; names the hosts whose facts differ from those of host 0, and both values.
    """
    if not hosts.several():
        return
    store, count = key_value_store(), num_processes()
    keys = [f"rmae_jax/{topic}/{host}" for host in range(count)]
    own = {"name": os.uname().nodename} | facts
    store.key_value_set(keys[process_id()], json.dumps(own))
    if hosts.is_first():
        answers = []
        for host in range(count):
            answer = _wait_for(keys[host], f"host {host} did not answer in the exchange about {topic}")
            answers.append(json.loads(answer))
        store.key_value_set(f"rmae_jax/{topic}/verdict", differences(answers) or "agreed")
    verdict = _wait_for(f"rmae_jax/{topic}/verdict", f"host 0 did not answer in the exchange about {topic}")
    if verdict != "agreed":
        raise hosts.HostError(verdict, known=True)


def check_shared(run: Path) -> None:
    """Checks that the run folder is the same folder on all hosts. It must exist on host 0.

    Raises:
      hosts.HostError: a host has a different folder; names the host.
    """
    if not hosts.several():
        return
    seal = run / ".hosts"
    address = coordinator_address()
    if hosts.is_first():
        seal.write_text(address)
    check_equal({}, "sealing the run's folder")
    deadline = time.monotonic() + SEEN_SECONDS
    while not (seal.exists() and seal.read_text() == address):
        if time.monotonic() > deadline:
            raise hosts.HostError(
                f"{hosts.this_host()} does not see what host 0 writes to {run}; all hosts must share the folder"
            )
        time.sleep(0.1)
    check_equal({}, "seeing the run's folder")
    if hosts.is_first():
        seal.unlink()


def differences(answers: list[dict[str, str]]) -> str:
    """Returns a message that names the hosts whose facts differ from those of host 0; empty if there are none."""
    first = answers[0]
    found = []
    for host, answer in enumerate(answers):
        differing = [key for key in sorted(first | answer) if key != "name" and answer.get(key) != first.get(key)]
        if differing:
            facts = ", ".join(f"{key} {answer.get(key)} instead of {first.get(key)}" for key in differing)
            found.append(f"host {host} ({answer['name']}) has {facts}")
    if not found:
        return ""
    more = f"; and {len(found) - SHOWN} more hosts" if len(found) > SHOWN else ""
    return f"not all hosts are like host 0 ({first['name']}): {'; '.join(found[:SHOWN])}{more}"


def _wait_for(key: str, otherwise: str) -> str:
    try:
        return key_value_store().blocking_key_value_get(key, 1000 * ANSWER_SECONDS)
    except jax.errors.JaxRuntimeError as error:
        raise hosts.HostError(f"{otherwise} within {ANSWER_SECONDS} s ({hosts.first_line(error)})") from error
