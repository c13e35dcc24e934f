"""Writers that are killed, and several at once: a shard has one at a time, and the same bytes in the end."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from m2m.data.shards import ShardBusy, ShardError, forget_shard, is_finished
from tests.data.shards.making import NAME, Entries, committed, complete, files_in, lay, open_writer, units_of

UNITS = units_of()
# Another process: appends unit after unit of the shard in the folder argv[1], slowly, and says so; finishes it.
CHILD = """
import sys, time
from tests.data.shards.making import open_writer, units_of
with open_writer(sys.argv[1], units_of()) as writer:
    print(writer.committed, flush=True)
    for unit in units_of()[writer.committed:]:
        writer.append(unit)
        print(writer.committed, flush=True)
        time.sleep(float(sys.argv[2]))
    writer.finish()
"""


@contextmanager
def child(folder: Path, pause: float) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing the shard; killed at the end if it still runs."""
    root = Path(__file__).parents[3]
    paths = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", CHILD, str(folder), str(pause)]
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_one_writer_at_a_time_and_a_kill_frees_the_shard(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Two writers mix their bytes; a lock that outlives its process blocks the shard for ever."""
    with child(folder, pause=60) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["0", "1"]
        for act in (lambda: open_writer(folder, UNITS), lambda: forget_shard(folder, NAME)):
            with pytest.raises(ShardBusy, match=NAME) as caught:
                act()
            assert not isinstance(caught.value, ShardError)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert committed(folder) == 1
    with open_writer(folder, UNITS), pytest.raises(ShardBusy):
        open_writer(folder, UNITS)
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed


def test_a_lock_on_a_removed_journal_is_no_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes, and removes the journal, between our opening of it and our lock on it."""
    lock, raced = fcntl.flock, False

    def after_removal(descriptor: int, how: int) -> None:
        nonlocal raced
        if not raced:
            raced = True
            (folder / f"{NAME}.journal").unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_removal)
    with open_writer(folder, UNITS):
        assert (folder / f"{NAME}.journal").exists()
        with pytest.raises(ShardBusy):
            open_writer(folder, UNITS)


class Death:
    """In a forked process: dies at the n-th call that changes a file, a write after half of its bytes."""

    CALLS = ("open", "pwrite", "ftruncate", "fsync", "rename", "replace", "unlink")

    def __init__(self, n: int) -> None:
        self.left = n
        self.pwrite = os.pwrite
        for name in self.CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                if name == "pwrite":
                    self.pwrite(args[0], args[1][: len(args[1]) // 2], args[2])
                os._exit(1)
            return call(*args, **kwargs)

        return counting


def survives(folder: Path, units: list[Entries], calls: int) -> bool:
    """Whether a process that dies at that call has finished the shard before."""
    process = os.fork()
    if process == 0:
        try:
            Death(calls)
            complete(folder, units)
            os._exit(0)
        finally:
            os._exit(1)  # on an error too: this is the test runner's own process, forked
    return os.waitpid(process, 0)[1] == 0


def test_killed_at_every_system_call(tmp_path: Path) -> None:
    """An order of write, rename, record and removal that is wrong at one place shows only when the kill comes there."""
    units = units_of(1)
    complete(tmp_path, units)
    undisturbed = files_in(tmp_path)
    calls, finished = 0, False
    while not finished:
        lay(tmp_path, {})
        finished = survives(tmp_path, units, calls)
        if not finished:
            assert not is_finished(tmp_path, NAME) or files_in(tmp_path) == undisturbed
            if calls % 4 == 0:
                survives(tmp_path, units, calls // 2)  # and killed once more, while it resumes
        complete(tmp_path, units)
        assert files_in(tmp_path) == undisturbed, f"killed at call {calls}"
        calls += 1
        assert calls < 100
    assert calls > 30


def test_killed_at_random_moments(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """What a kill -9 leaves of a process that runs on its own, wherever it comes."""
    moments = random.Random(0)
    for _ in range(6):
        with child(folder, pause=0.01) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.06))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed
