"""What the C library does with freed memory, in processes of their own: it cannot be taken back."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, resource, sys, threading
from rmae_jax.runtime.allocator import keep_freed_memory

os.environ["JAX_PLATFORMS"] = "cpu"
if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def step():
    size = 256 * 2**20
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)

for _ in range(3):  # in a thread, as XLA does
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_block_that_was_freed_is_had_again_without_page_faults():
    faults = {}
    for way in ("kept", "given back"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
        faults[way] = int(done.stdout)
    assert faults["kept"] < 100
    assert faults["given back"] > 100 * faults["kept"] + 100
