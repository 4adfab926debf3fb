"""What hosts must have in common is compared before they train: differences would show as a hang, or not at all."""

import hashlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import jax

from rmae_jax.runtime import hosts
from rmae_jax.runtime.library_internals import coordinator_address, key_value_store, num_processes, process_id

ANSWER_SECONDS = 300  # within which all hosts must have done their part
SEEN_SECONDS = 10  # within which network file systems show new files
SHOWN = 5  # hosts that a message names
PACKAGES = ("data_prep", "rmae_jax")
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def program() -> dict[str, str]:
    """The facts of a host's libraries and code; `check_equal` compares them."""
    code = hashlib.sha256()
    packages = Path(__file__).parents[2]
    for file in sorted(file for name in PACKAGES for file in (packages / name).rglob("*.py")):
        code.update(file.read_bytes())
    return {name: version(name) for name in LIBRARIES} | {"code": code.hexdigest()[:8]}


def check_equal(facts: dict[str, str], topic: str) -> None:
    """Makes sure that all hosts have the same facts; waits for all of them.

    Args:
      facts: by name.
      topic: of this exchange, a word of its own.

    Raises:
      hosts.HostError: names the hosts that have others than host 0, and what they are.
    """
    if not hosts.several():
        return
    store, count = key_value_store(), num_processes()
    told = [f"rmae_jax/{topic}/{host}" for host in range(count)]
    own = {"name": os.uname().nodename} | facts
    store.key_value_set(told[process_id()], json.dumps(own))
    if hosts.is_first():
        answers = []
        for host in range(count):
            answer = _wait_for(told[host], f"host {host} did not come to the exchange of {topic}")
            answers.append(json.loads(answer))
        store.key_value_set(f"rmae_jax/{topic}/verdict", differences(answers) or "agreed")
    verdict = _wait_for(f"rmae_jax/{topic}/verdict", f"host 0 said nothing of {topic}")
    if verdict != "agreed":
        raise hosts.HostError(verdict, known=True)


def check_shared(run: Path) -> None:
    """Makes sure that a run's folder is one folder for all hosts. It must exist on host 0.

    Raises:
      hosts.HostError: names the host that has another one.
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
    """Names the hosts whose facts, in order of hosts, are not those of host 0; empty if there are none."""
    first = answers[0]
    found = []
    for host, answer in enumerate(answers):
        differing = [key for key in sorted(first | answer) if key != "name" and answer.get(key) != first.get(key)]
        if differing:
            facts = ", ".join(f"{key} {answer.get(key)} instead of {first.get(key)}" for key in differing)
            found.append(f"host {host} ({answer['name']}) has {facts}")
    if not found:
        return ""
    more = f"; and {len(found) - SHOWN} hosts more" if len(found) > SHOWN else ""
    return f"not all hosts are like host 0 ({first['name']}): {'; '.join(found[:SHOWN])}{more}"


def _wait_for(key: str, otherwise: str) -> str:
    try:
        return key_value_store().blocking_key_value_get(key, 1000 * ANSWER_SECONDS)
    except jax.errors.JaxRuntimeError as error:
        raise hosts.HostError(f"{otherwise} within {ANSWER_SECONDS} s ({hosts.first_line(error)})") from error
