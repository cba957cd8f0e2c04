"""glibc's allocator as our processes want it; each asks in a process of its own, since nothing can be asked back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from streamer.machine import malloc as heap

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")

FAULTS = """
import ctypes, resource
from streamer.machine.malloc import give_back, keep_freed

SIZE = 24 << 20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def passes(count):
    for _ in range(count):
        blocks = [libc.malloc(SIZE) for _ in range(3)]
        for block in blocks:
            ctypes.memset(block, 1, SIZE)
        for block in blocks:
            libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    passes(count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

passes(2)
given = faults(4)
keep_freed()
passes(2)
kept = faults(4)
held = resident()
give_back()
print(given, kept, held - resident())
"""

ARENAS = """
import ctypes, sys, threading
from streamer.machine.malloc import share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
held = []
together = threading.Barrier(8)

def allocate():
    together.wait()
    held.append(libc.malloc(1000))
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def _said(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@glibc
def test_what_is_freed_is_taken_again_until_it_is_given_back() -> None:
    """72 MB a pass are 18,000 pages: by default each pass faults them in anew."""
    given, kept, returned = map(int, _said(FAULTS).split())
    assert given > 10_000
    assert kept < given / 100
    assert returned > 10_000


@glibc
def test_threads_share_one_arena() -> None:
    assert _said(ARENAS, "each its own").count("<heap nr=") > 1
    assert _said(ARENAS, "shared").count("<heap nr=") == 1


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for each function of glibc's, has none, and nothing is called."""
    asked = []

    class OtherLibrary:
        def __getattr__(self, name: str) -> None:
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: OtherLibrary())
    heap.share_one_arena()
    heap.keep_freed()
    heap.give_back()
    assert asked == ["mallopt", "mallopt", "mallopt", "malloc_trim"]
