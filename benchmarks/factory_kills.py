"""The factory against kill -9: what stands in the folder at the end is what an undisturbed run leaves, byte for byte.

    python benchmarks/factory_kills.py                        # 50 kills of the build, 10 of Ray actors, 1 machine lost
    python benchmarks/factory_kills.py --only build --kills 200 --seed 7
    python benchmarks/factory_kills.py --out kills.json

build     `m2m data build` is killed at random moments of its work (one time in six of its start), and started again
actors    `m2m data build --ray local --workers 2` goes on while one of its actors at work is killed, again and again
machine   of a Ray cluster of two machines (two nodes on this one) one is lost, and later another one joins

Each must end with the files of the undisturbed run. No finished shard may be touched again (its file would be another
or a later one), and no unit that was committed may be lost (a shard that is not finished never shrinks). Prints a table
of every kill, and exits with 1 if anything was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from m2m.checkpoint import sha256_of_files, write_json
from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.shards import is_finished

IMAGES, SETS_PER_SHARD, BATCH = 10, 4, 4
UNITS_PER_SHARD = SETS_PER_SHARD * IMAGES // BATCH
ACTOR = "ray::ShardMaker"
NODE = {"object_store_memory": 100 << 20, "include_dashboard": False}
PATIENCE = 600.0  # seconds for what hangs; on a busy machine, a start takes a while


@dataclass(frozen=True)
class Kill:
    """When a process was killed, and what it left. seconds: since the work began (None: killed while it started);
    finished: whole shards; units: committed in the others; torn: bytes behind the last committed unit of these."""

    seconds: float | None
    finished: int
    units: int
    torn: int


class Watch:
    """Looks at a folder now and then, and notes what must not happen in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.misses: list[str] = []
        self._finished: dict[str, tuple[int, int, int]] = {}
        self._units: Counter[str] = Counter()

    def look(self) -> None:
        # Units first: a shard that is finished in between has no journal then, but is among the finished ones.
        units = Counter({name: len(ends) for name, ends in journals(self.folder).items()})
        finished = finished_files(self.folder)
        for name, identity in self._finished.items():
            if finished.get(name) != identity:
                self.misses.append(f"{name} was finished, and is another file now")
        for name, count in self._units.items():
            if name not in finished and units[name] < count:
                self.misses.append(f"{name} had {count} units, and has {units[name]} now")
        self._finished, self._units = finished, units

    def kill(self, seconds: float | None) -> Kill:
        """Look at what a kill has left."""
        self.look()
        ends = {name: max(units, default=0) for name, units in journals(self.folder).items()}
        torn = sum(max(0, _size(self.folder / f"{name}.tar.part") - end) for name, end in ends.items())
        return Kill(seconds, len(self._finished), self._units.total(), torn)


def finished_files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, time and size of the tar of each finished shard."""
    stats = {path.stem: path.stat() for path in folder.glob("*.tar") if is_finished(folder, path.stem)}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def journals(folder: Path) -> dict[str, list[int]]:
    """The units of each shard that is not finished: the bytes where they end."""
    return {path.stem: _ends(path) for path in folder.glob("*.journal")}


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a build's folder, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): sha256_of_files([path]) for path in files}


def actors_at_work(parent: int) -> dict[int, str]:
    """Processes below `parent` that are actors with a shard open: process id -> the shard's name."""
    found = {}
    for pid in descendants(parent):
        if _read(f"/proc/{pid}/cmdline").startswith(ACTOR) and (shard := _open_shard(pid)):
            found[pid] = shard
    return found


def descendants(parent: int) -> set[int]:
    """All processes that `parent` or its children started."""
    parents = {int(name): _parent(name) for name in os.listdir("/proc") if name.isdigit()}
    family = {parent}
    while more := {pid for pid, above in parents.items() if above in family} - family:
        family |= more
    return family - {parent}


def _ends(journal: Path) -> list[int]:
    """Where the units of a journal end: its whole lines behind the first."""
    lines = _read(journal).split("\n")[1:-1]
    return [int(json.loads(line)["end"]) for line in lines]


def _read(path: str | Path) -> str:
    """A file that may vanish at any moment."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _parent(pid: str) -> int:
    """The process that started this one; 0 where it has ended."""
    words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[1]) if words else 0


def _open_shard(pid: int) -> str:
    """The shard whose journal a process holds open; empty: none."""
    try:
        targets = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((Path(target).stem for target in targets if target.endswith(".journal")), "")


class Scene:
    """A folder of captions, the command that builds from them, and what it leaves undisturbed."""

    def __init__(self, root: Path, sets: int, size: int) -> None:
        self.root, self.units = root, sets * IMAGES // BATCH
        self._captions = root / "captions"
        self._size = size
        sift_captions([f"world:full:train:{sets}"], self._captions, SiftConfig(test=0))
        start = time.monotonic()
        undisturbed = self.start("undisturbed")
        self.start_seconds = self.wait_for_work(undisturbed, Path("undisturbed"))
        self.finish(undisturbed)
        self.work_seconds = time.monotonic() - start - self.start_seconds
        self.expected = contents(root / "undisturbed")

    def start(self, name: str, *more: str) -> subprocess.Popen[str]:
        """`m2m data build` into the folder `name`."""
        what = f"--generator world:full --size {self._size} --batch {BATCH} --images-per-set {IMAGES}"
        command = [sys.executable, "-m", "m2m", "data", "build", "--captions", str(self._captions), *what.split()]
        command += ["--sets-per-shard", str(SETS_PER_SHARD), "--out", str(self.root / name), *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for_work(self, process: subprocess.Popen[str], name: str | Path) -> float:
        """Wait until a unit more than now is committed in the folder, or the process ends. Returns the seconds."""
        folder, start = self.root / name, time.monotonic()
        before = committed(folder)
        while process.poll() is None and committed(folder) == before:
            _patience(start, process)
            time.sleep(0.005)
        return time.monotonic() - start

    def finish(self, process: subprocess.Popen[str]) -> None:
        """Wait for the end of a process, which must be a good one."""
        said, _ = process.communicate(timeout=PATIENCE)
        if process.returncode != 0:
            raise RuntimeError(f"`m2m data build` ended with {process.returncode}: {said}")

    def differences(self, name: str) -> list[str]:
        """What the folder has otherwise than the undisturbed one."""
        found = contents(self.root / name)
        names = sorted(found.keys() | self.expected.keys())
        return [f"{name} differs" for name in names if found.get(name) != self.expected.get(name)]


def committed(folder: Path) -> int:
    """Units in the folder: those of finished shards, and those that journals state."""
    finished = sum(1 for path in folder.glob("shard-*.json"))
    return finished * UNITS_PER_SHARD + sum(len(ends) for ends in journals(folder).values())


def kill_builds(scene: Scene, kills: int, draw: random.Random) -> tuple[list[Kill], list[str]]:
    """Kill the build `kills` times, then let it finish. A folder that is done before goes on in a new one."""
    done: list[Kill] = []
    misses: list[str] = []
    watch = Watch(scene.root / "killed-0")
    while len(done) < kills:
        process = scene.start(watch.folder.name)
        seconds = _wait_at_random(scene, process, watch.folder, kills - len(done), draw)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            done.append(watch.kill(seconds))
            continue
        misses += _last_look(scene, watch)
        watch = Watch(scene.root / f"killed-{len(done)}")
    scene.finish(scene.start(watch.folder.name))
    return done, misses + _last_look(scene, watch)


def _wait_at_random(
    scene: Scene, process: subprocess.Popen[str], folder: Path, kills: int, draw: random.Random
) -> float | None:
    """Some time of the process's start, or of the work that is left; so much that the kills spread over all of it."""
    if draw.random() < 1 / 6:
        time.sleep(draw.uniform(0, scene.start_seconds))
        return None
    left = 1 - committed(folder) / scene.units
    seconds = draw.uniform(0, 2 * left * scene.work_seconds / (kills + 1))
    scene.wait_for_work(process, folder)
    time.sleep(seconds)
    return seconds


def _last_look(scene: Scene, watch: Watch) -> list[str]:
    watch.look()
    return watch.misses + scene.differences(watch.folder.name)


def kill_actors(scene: Scene, kills: int, draw: random.Random) -> tuple[list[Kill], list[str]]:
    """One run on Ray with two actors, of which one that is at work is killed `kills` times, spread over the work."""
    done: list[Kill] = []
    watch = Watch(scene.root / "actors")
    process = scene.start("actors", "--ray", "local", "--workers", "2")
    start = time.monotonic()
    moments = sorted(draw.sample(range(1, scene.units - 2 * UNITS_PER_SHARD), kills))
    while process.poll() is None and len(done) < kills:
        _patience(start, process)
        time.sleep(draw.uniform(0, 0.1))
        working = sorted(actors_at_work(process.pid))
        if working and committed(watch.folder) >= moments[len(done)]:
            os.kill(draw.choice(working), signal.SIGKILL)
            done.append(watch.kill(time.monotonic() - start))
    scene.finish(process)
    missed = [f"only {len(done)} of {kills} actors were killed before the end"] if len(done) < kills else []
    return done, missed + _last_look(scene, watch)


def lose_machine(scene: Scene, kills: int, draw: random.Random) -> tuple[list[Kill], list[str]]:
    """A cluster of two machines (Ray nodes on this one) loses one with its actor; another joins in its place."""
    from ray.cluster_utils import Cluster

    done: list[Kill] = []
    watch = Watch(scene.root / "machines")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
        process = scene.start("machines", "--ray", cluster.address)
        for _ in range(kills):
            scene.wait_for_work(process, "machines")
            seconds = draw.uniform(0, 3.0)
            time.sleep(seconds)
            cluster.remove_node(nodes.pop(draw.randrange(2)), allow_graceful=False)
            done.append(watch.kill(seconds))
            nodes.append(cluster.add_node(num_cpus=1, **NODE))
        scene.finish(process)
    finally:
        cluster.shutdown()
    return done, _last_look(scene, watch)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _patience(start: float, process: subprocess.Popen[str]) -> None:
    if time.monotonic() - start > PATIENCE:
        process.kill()
        raise RuntimeError(f"nothing happened in {PATIENCE:.0f} s")


SCENARIOS = {"build": kill_builds, "actors": kill_actors, "machine": lose_machine}
KILLS = {"build": 50, "actors": 10, "machine": 1}


def show(name: str, kills: Sequence[Kill], misses: Sequence[str], seconds: float) -> None:
    """A table of the kills, and what was missed."""
    print(f"\n{name}: {len(kills)} kills in {seconds:.0f} s\n")
    print("| kill | after | finished shards | units in others | torn bytes |\n|--:|--:|--:|--:|--:|")
    for number, kill in enumerate(kills, start=1):
        after = "start" if kill.seconds is None else f"{kill.seconds:.2f} s"
        print(f"| {number} | {after} | {kill.finished} | {kill.units} | {kill.torn} |")
    print(f"\n{len(misses)} misses", *misses, sep="\n  ")


def run(options: argparse.Namespace) -> int:
    """Returns how much was missed."""
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        scene = Scene(Path(root), options.sets, options.size)
        files = sum(1 for name in scene.expected if name.endswith(".tar"))
        print(f"undisturbed: {files} shards, {scene.start_seconds:.1f} s to start, {scene.work_seconds:.1f} s of work")
        for name in [options.only] if options.only else SCENARIOS:
            start = time.monotonic()
            kills, misses = SCENARIOS[name](scene, options.kills or KILLS[name], random.Random(options.seed))
            show(name, kills, misses, time.monotonic() - start)
            results[name] = {"kills": [asdict(kill) for kill in kills], "misses": misses}
    if options.out:
        write_json(options.out, {"seed": options.seed, "sets": options.sets, "size": options.size, **results})
    return sum(len(result["misses"]) for result in results.values())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario alone")
    parser.add_argument("--kills", type=int, help="how many; default: 50 builds, 10 actors, 1 machine")
    parser.add_argument("--sets", type=int, default=320, help="captions; a multiple of 4, the sets of a shard")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help="where to work; a temporary folder is made in it")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(1 if run(parse()) else 0)
