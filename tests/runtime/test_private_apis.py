"""The private names of JAX and Orbax still exist and mean what the code takes them for."""

import json
import subprocess
import sys

import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from rmae_jax.runtime import private_apis


def test_a_process_alone():
    assert private_apis.process_id() == 0
    assert private_apis.key_value_store() is None
    assert not private_apis.is_tpu_pod()


def test_functions_at_exit_run_before_threads_are_joined():
    program = """
import threading
from rmae_jax.runtime.private_apis import call_before_threads_join
release = threading.Event()
threading.Thread(target=release.wait).start()  # would keep Python from exiting
call_before_threads_join(release.set)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_names_of_orbax(tmp_path):
    seen = []
    response = ocp.save_async(tmp_path / "1", {"x": jnp.zeros(3)}, custom_metadata={"checksums": {"x": 1}})
    while not (tmp_path / "1").exists():
        seen += [path.name for path in tmp_path.iterdir()]
    response.result()
    assert not seen or all(name == "1" or private_apis.ORBAX_UNFINISHED in name for name in seen)
    metadata = json.loads((tmp_path / "1" / private_apis.ORBAX_METADATA).read_text())
    assert metadata["custom_metadata"] == {"checksums": {"x": 1}}
