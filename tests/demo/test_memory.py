"""Memory that threads take comes from one place, and goes back to it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# glibc's own account of its heaps, after eight threads have taken some memory each at the same time.
COUNT_ARENAS = """
import ctypes, threading
from m2m.demo.memory import use_one_arena
if {one}: use_one_arena()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
meet = threading.Barrier(8)
def take():
    meet.wait()
    kept.append(libc.malloc(1000))
    meet.wait()
kept = []
threads = [threading.Thread(target=take) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


def arenas(one: bool) -> int:
    code = COUNT_ARENAS.format(one=one)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc")
def test_threads_share_one_arena() -> None:
    """A number that is not glibc's would be ignored without a word, and the demo would grow for weeks."""
    assert arenas(one=False) > 1
    assert arenas(one=True) == 1
