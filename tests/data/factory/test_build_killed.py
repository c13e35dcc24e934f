"""The build against what befalls a process: kill -9 at any moment, a full disk, a folder that must not be written."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from m2m.data.factory.assembly import IN_FLIGHT
from m2m.data.factory.build import build
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings
from m2m.data.shards import is_finished, read_manifest
from tests.cli.running import environment
from tests.data.factory.making import LoggedSets, asked, captions_folder, contents, world_recipe

ROOT = Path(__file__).parents[3]
KILLS = 6
BATCH = 4
CHILD = """
import sys
from pathlib import Path
from tests.data.factory.test_build_killed import run
try:
    run(*map(Path, sys.argv[1:]))
except ValueError as error:
    sys.exit(str(error))
"""


def run(captions: Path, out: Path, log: Path) -> None:
    """20 sets of 10 images as 5 shards of 10 units, slow enough to be struck at work."""
    source = open_source(world_recipe(captions, batch=BATCH, images_per_set=10))
    build(LoggedSets(source, log, wait=0.01), BuildSettings(out=out, images=(0, 10), sets_per_shard=4))


def start(captions: Path, out: Path, log: Path, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """The run in a process of its own; `prepare` is called in it first."""
    command = [sys.executable, "-c", CHILD, str(captions), str(out), str(log)]
    return subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("killed") / "captions", count=20)


@pytest.fixture(scope="module")
def undisturbed(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(captions, folder / "shards", folder / "log")
    return contents(folder / "shards")


def finished_files(out: Path) -> dict[str, tuple[int, int, int]]:
    """Identity of the tar of each finished shard: made again, it would be another file or a later one."""
    stats = {path.stem: path.stat() for path in out.glob("*.tar") if is_finished(out, path.stem)}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def wait_for_more(log: Path, child: subprocess.Popen[str]) -> None:
    """Until the child is at work, or at its end."""
    before = log.stat().st_size if log.exists() else 0
    while child.poll() is None and (log.stat().st_size if log.exists() else 0) == before:
        time.sleep(0.002)


def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(
    captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A half-written shard taken for whole, a finished one made again, a unit lost or doubled: each shows here."""
    out, log, moments = tmp_path / "out", tmp_path / "log", random.Random(1)
    files: dict[str, tuple[int, int, int]] = {}
    for _ in range(KILLS):
        child = start(captions, out, log)
        wait_for_more(log, child)
        time.sleep(moments.uniform(0, 0.15))
        child.kill()
        child.communicate()
        now = finished_files(out)
        assert {name: now.get(name) for name in files} == files
        files = now
    run(captions, out, log)
    assert {name: finished_files(out)[name] for name in files} == files
    assert contents(out) == undisturbed
    made = asked(log)
    assert len(made) == 200
    assert sum(made.values()) - 200 <= KILLS * (IN_FLIGHT + 2) * BATCH  # what was in flight, and nothing else


def test_a_full_disk_is_one_line_and_the_run_continues_after(
    captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """An error of the disk is no fault of a shard: set aside one after the other, all of them would be lost at once."""
    out, log = tmp_path / "out", tmp_path / "log"
    build(
        open_source(world_recipe(captions, batch=BATCH, images_per_set=10)),
        BuildSettings(out=out, images=(0, 10), shards=(0, 2), sets_per_shard=4),
    )
    before = finished_files(out)
    limit = 30_000  # bytes that a file may have; a shard has twice as many

    child = start(captions, out, log, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    message = child.communicate()[1]
    assert child.returncode == 1
    assert message.count("\n") == 1 and f"'{out}' cannot be written: File too large" in message
    assert finished_files(out) == before and not (out / "failed").exists()
    assert len(read_manifest(out).shards) == 2

    run(captions, out, log)
    assert contents(out) == undisturbed
    assert sum(asked(log).values()) - 120 <= (IN_FLIGHT + 2) * BATCH


def without_root_rights() -> None:
    """Let the modes of files bind this process, even as root: CAP_DAC_OVERRIDE leaves with the next exec."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_read_only_folder_is_one_line(captions: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Found after the first batch, a mistake in --out costs an hour of loading; as a traceback, nobody reads it."""
    out, log = tmp_path / "out", tmp_path / "log"
    build(
        open_source(world_recipe(captions, batch=BATCH, images_per_set=10)),
        BuildSettings(out=out, images=(0, 10), shards=(0, 1), sets_per_shard=4),
    )
    before = contents(out)
    out.chmod(0o555)
    (out / ".lock").chmod(0o444)
    child = start(captions, out, log, without_root_rights)
    message = child.communicate()[1]
    out.chmod(0o755)
    (out / ".lock").chmod(0o644)
    assert child.returncode == 1
    assert message.count("\n") == 1 and f"'{out}' cannot be written" in message
    assert contents(out) == before and not log.exists()
    run(captions, out, log)
    assert contents(out) == undisturbed


def test_a_folder_that_becomes_read_only_while_it_is_filled(
    captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A disk with errors is remounted read-only in the middle of a run."""
    out, log = tmp_path / "out", tmp_path / "log"
    child = start(captions, out, log, without_root_rights)
    wait_for_more(log, child)
    out.chmod(0o555)
    message = child.communicate()[1]
    out.chmod(0o755)
    assert child.returncode == 1
    assert message.count("\n") == 1 and f"'{out}' cannot be written: Permission denied" in message
    run(captions, out, log)
    assert contents(out) == undisturbed


def test_two_processes_share_a_folder_and_one_may_die(
    captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """The lock of a process that was killed must not hold its shard for ever, nor be taken while it lives."""
    out, log = tmp_path / "out", tmp_path / "log"
    first, second = (start(captions, out, log) for _ in range(2))
    wait_for_more(log, first)
    time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    message = second.communicate()[1]
    assert (second.returncode, message) == (0, "")
    assert contents(out) == undisturbed and read_manifest(out).complete
    assert sum(asked(log).values()) - 200 <= (IN_FLIGHT + 2) * BATCH
    assert os.listdir(out).count("build.json") == 1
