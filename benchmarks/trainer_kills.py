"""The trainer against kill -9, SIGTERM and full disks: what it becomes is what an undisturbed run becomes, to the bit.

    python benchmarks/trainer_kills.py                    # 50 kills, 20 signals, 20 full disks
    python benchmarks/trainer_kills.py --only kills --kills 200 --seed 7
    python benchmarks/trainer_kills.py --out kills.json

kills     `m2m train` is killed at random moments, every other time just when it saves, and started again
signals   `m2m train` gets SIGTERM at random moments, and is started again
full      the disk has no room for the next checkpoint, and then has room again. As root: a small disk in memory; else a
          limit on the size of files

An undisturbed run says what every step's checkpoint holds, byte for byte: weights, optimiser, average, random states
and cursor. After every kill, signal and full disk the newest checkpoint must be that one, and at most one interval may
be lost; at the end every step must have had the undisturbed loss. The cursors are those of the order that reads every
set once an epoch. Prints tables, and exits with 1 if anything was missed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer_scene import INTERVAL, PATIENCE, Run, Scene, wait

from m2m.checkpoint import write_json

INSIDE = 0.3  # at least this share of the kills must fall into a save
SECONDS = 30.0  # from SIGTERM to the end
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Stop:
    """How a run was stopped, and what it left.

    seconds: since its first step (None: while it started); reached: steps done; kept: step of the newest checkpoint;
    inside: it was saving; took: seconds from the signal to the end; room: bytes that were left on the disk; code: exit
    code, as a shell tells it (128 and the number of the signal that ended it); said: what it wrote as an error.
    """

    seconds: float | None
    reached: int
    kept: int
    inside: bool = False
    took: float = 0.0
    room: int = 0
    code: int = 0
    said: tuple[str, ...] = ()


def kill(scene: Scene, count: int, draw: random.Random) -> tuple[list[Stop], list[str]]:
    """Kill the run `count` times (and until enough kills fell into a save), then let it finish. A run that is done
    before goes on in a new folder."""
    done: list[Stop] = []
    misses: list[str] = []
    run = scene.run("killed-0")
    while len(done) < count or (_inside(done) < INSIDE * count and len(done) < 2 * count):
        stale = run.staging()
        process = scene.start(run)
        seconds = _wait_at_random(scene, process, run, len(done), draw)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            reached, kept = run.look()
            done.append(Stop(seconds, reached, kept, inside=bool(run.staging() - stale)))
            continue
        misses += _finished(scene, run, process)
        run = scene.run(f"killed-{len(done)}")
    misses += _finished(scene, run, scene.start(run))
    if _inside(done) < INSIDE * count:
        misses.append(f"only {_inside(done)} kills fell into a save")
    return done, misses


def _inside(stops: Sequence[Stop]) -> int:
    return sum(stop.inside for stop in stops)


def _wait_at_random(
    scene: Scene, process: subprocess.Popen[bytes], run: Run, number: int, draw: random.Random
) -> float | None:
    """Some time of the start (one time in six) or of the work; every other time up to a moment of a save."""
    if draw.random() < 1 / 6:
        time.sleep(draw.uniform(0, scene.start_seconds))
        return None
    scene.wait_for_work(process, run)
    start = time.monotonic()
    if number % 2:
        stale = run.staging()
        wait(process, lambda: bool(run.staging() - stale))
        time.sleep(draw.uniform(0, 1.2 * scene.save_seconds))
    else:
        time.sleep(draw.uniform(0, scene.work_seconds / 4))
    return time.monotonic() - start


def _finished(scene: Scene, run: Run, process: subprocess.Popen[bytes]) -> list[str]:
    """What was missed in a run, at its end."""
    scene.finish(process)
    run.last_look()
    return run.misses


def send_signals(scene: Scene, count: int, draw: random.Random) -> tuple[list[Stop], list[str]]:
    """SIGTERM at random moments of the work, `count` times."""
    done: list[Stop] = []
    misses: list[str] = []
    run = scene.run("signalled-0")
    while len(done) < count:
        process = scene.start(run)
        scene.wait_for_work(process, run)
        start = time.monotonic()
        time.sleep(draw.uniform(0, scene.work_seconds / 4))
        if process.poll() is not None:
            misses += _finished(scene, run, process)
            run = scene.run(f"signalled-{len(done)}")
            continue
        seconds, sent = time.monotonic() - start, time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended, took = process.wait(PATIENCE), time.monotonic() - sent
        code = 128 - ended if ended < 0 else ended  # a run that is done dies of the signal itself
        reached, kept = run.look()
        done.append(Stop(seconds, reached, kept, took=took, code=code, said=scene.errors()))
        if code not in (0, TERMINATED) or took > SECONDS or kept != reached or run.staging():
            misses.append(f"signal {len(done)}: {done[-1]}")
    return done, misses + _finished(scene, run, scene.start(run))


def fill_disk(scene: Scene, count: int, draw: random.Random) -> tuple[list[Stop], list[str]]:
    """Leave no room for the next checkpoint once a run has saved one, `count` times.

    Every fourth time there is no room for anything: then the run may end before it saves.
    """
    done: list[Stop] = []
    misses: list[str] = []
    with small_disk(scene.root / "disk", 5 * scene.size) as disk:
        run = scene.run("disk/full-0")
        while len(done) < count:
            process, before, start = scene.start(run), run.kept(), time.monotonic()
            wait(process, lambda: run.kept() > before)  # noqa: B023  # called within this turn of the loop
            # Behind the last step no further checkpoint is written: that run has ended, even if it is still there.
            if process.poll() is not None or run.kept() == scene.steps:
                misses += _finished(scene, run, process)
                shutil.rmtree(run.folder)
                run = scene.run(f"disk/full-{len(done)}")
                continue
            room = 0 if len(done) % 4 == 3 else int(draw.uniform(0.05, 0.95) * scene.size)
            wait(process, lambda: disk.leave(room, process))  # noqa: B023
            disk.empty()
            reached, kept = run.look()
            code = process.returncode
            said = scene.errors()
            done.append(Stop(time.monotonic() - start, reached, kept, room=room, code=code, said=said))
            if code != 2 or len(said) != 1 or not said[0].startswith("m2m: ") or run.staging():
                misses.append(f"full disk {len(done)}: {done[-1]}")
        misses += _finished(scene, run, scene.start(run))
    return done, misses


class SmallDisk:
    """A folder with little room: a disk of its own, or where none can be mounted, a limit on the size of its files."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self._ballast = folder / "ballast"
        self._mounted = mounted

    def leave(self, room: int, process: subprocess.Popen[bytes]) -> bool:
        """Take all but `room` bytes. Gives False: what the process frees meanwhile is to be taken as well."""
        if not self._mounted:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
            return False
        stat = os.statvfs(self._ballast.parent)
        if (more := stat.f_bavail * stat.f_frsize - room) > 0:
            with open(self._ballast, "ab") as file:
                os.posix_fallocate(file.fileno(), file.tell(), more)
        return False

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


SCENARIOS = {"kills": kill, "signals": send_signals, "full": fill_disk}
COUNTS = {"kills": 50, "signals": 20, "full": 20}


def show(name: str, stops: Sequence[Stop], misses: Sequence[str], seconds: float) -> None:
    """A table of what was done to the runs, and what was missed."""
    print(f"\n{name}: {len(stops)} in {seconds:.0f} s, {_inside(stops)} inside a save\n")
    print("| | after | reached | kept | saving | took | room | exit |\n|--:|--:|--:|--:|--|--:|--:|--:|")
    for number, stop in enumerate(stops, start=1):
        after = "start" if stop.seconds is None else f"{stop.seconds:.2f} s"
        numbers = f"{stop.reached} | {stop.kept} | {'yes' if stop.inside else ''} | {stop.took:.2f} s"
        print(f"| {number} | {after} | {numbers} | {stop.room} | {stop.code} |")
    print(f"\n{len(misses)} misses", *misses, sep="\n  ", flush=True)


def run(options: argparse.Namespace) -> int:
    """Returns how much was missed."""
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        scene = Scene(Path(root), options.steps)
        times = f"{scene.start_seconds:.1f} s to start, {scene.work_seconds:.1f} s of work"
        print(f"undisturbed: {options.steps} steps, {scene.check_order()}; {times}, {scene.save_seconds:.3f} s a save")
        for name in [options.only] if options.only else SCENARIOS:
            start = time.monotonic()
            stops, misses = SCENARIOS[name](scene, options.kills or COUNTS[name], random.Random(options.seed))
            show(name, stops, misses, time.monotonic() - start)
            results[name] = {"stops": [asdict(stop) for stop in stops], "misses": misses}
    if options.out:
        write_json(options.out, {"seed": options.seed, "steps": options.steps, "interval": INTERVAL, **results})
    return sum(len(result["misses"]) for result in results.values())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario alone")
    parser.add_argument("--kills", type=int, help="how many; default: 50 kills, 20 signals, 20 full disks")
    parser.add_argument("--steps", type=int, default=60, help="of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help="where to work; a temporary folder is made in it")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(1 if run(parse()) else 0)
