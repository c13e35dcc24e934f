"""Generation for an evaluation against kill -9 and SIGTERM: its images are those of an undisturbed run, byte for byte.

    python benchmarks/evaluation_kills.py                     # 20 kills, 10 signals
    python benchmarks/evaluation_kills.py --kills 5 --signals 2 --seed 7 --out kills.json

A process makes images for six sets of the tiny world with a shipped model, two sets at a time. It is killed at random
moments (one time in six of its start, and every other time just when it writes a set), or gets SIGTERM, and is started
again; where one is done before, the next begins in a new folder. After every stop each set that is there must be whole
and as undisturbed, and must stay untouched from then on; at the end none may be missing and nothing half written may be
left. Prints a table, and exits with 1 if anything was missed.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer_scene import PATIENCE, wait

from m2m.checkpoint import STAGING_SUFFIX, sha256_of_files, write_json
from m2m.evaluation.generation import REQUEST, GenerateConfig, generate
from m2m.signals import stop_signals

SETS = "world:mini:test:6"
CONFIG = GenerateConfig(images=3, steps=4, batch=2)


@dataclass(frozen=True)
class Stop:
    """How a process was stopped. seconds: since it was started; sets: whole ones that it left; writing: it was writing
    a set; took: seconds from the signal to the end; code: exit code, as a shell tells it."""

    kind: str
    seconds: float
    sets: int
    writing: bool
    took: float
    code: int


class Folder:
    """A folder of images, seen from outside. expected: digest of every file of the undisturbed run, by its name."""

    def __init__(self, path: Path, expected: dict[str, str]) -> None:
        self.path = path
        self.misses: list[str] = []
        self._expected = expected
        self._written: dict[str, int] = {}

    def sets(self) -> dict[str, int]:
        """The sets that are there, and when each came."""
        return {path.name: path.stat().st_mtime_ns for path in self.path.glob("[0-9]*")}

    def staging(self) -> set[str]:
        """Sets that are being written, or were when a process was killed."""
        return {path.name for path in self.path.glob(f".*{STAGING_SUFFIX}")}

    def look(self) -> int:
        """After the end of a process: how many sets are there; and note what must not be."""
        written = self.sets()
        for name, when in self._written.items():
            if written.get(name) != when:
                self.misses.append(f"{self.path.name}: set {name} was there, and is gone or another one now")
        whole = digests(self.path)
        for name in written:
            own = {file for file in self._expected if file.startswith(f"{name}/")}
            if any(whole.get(file) != self._expected[file] for file in own):
                self.misses.append(f"{self.path.name}: set {name} is not whole, or not the undisturbed one")
        self._written = written
        return len(written)

    def last_look(self) -> None:
        """After the last set: all files must be there, as undisturbed, and no other ones."""
        self.look()
        found = digests(self.path)
        wrong = sorted(name for name in {**self._expected, **found} if found.get(name) != self._expected.get(name))
        if wrong or self.staging():
            self.misses.append(f"{self.path.name}: {wrong or self.staging()} differ from the undisturbed run")


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file of a folder, by its name below it; without those that are being written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and STAGING_SUFFIX not in str(path)]
    return {str(path.relative_to(folder)): sha256_of_files([path]) for path in files}


class Scene:
    """The process that makes images, and what it comes to undisturbed."""

    def __init__(self, root: Path, model: str) -> None:
        self.root = root
        self._model = model
        straight = Folder(root / "undisturbed", {})
        start = time.monotonic()
        process = self.start(straight)
        wait(process, lambda: (straight.path / REQUEST).exists())
        self.start_seconds = time.monotonic() - start
        self.finish(process)
        self.seconds = time.monotonic() - start
        self.expected = digests(straight.path)

    def folder(self, name: str) -> Folder:
        """A new folder."""
        return Folder(self.root / name, self.expected)

    def start(self, folder: Folder) -> subprocess.Popen[bytes]:
        """This file again, as the process that makes the images."""
        words = [sys.executable, __file__, "--model", self._model, "--generate", str(folder.path)]
        with open(self.root / "error.txt", "wb") as error:
            return subprocess.Popen(words, stderr=error)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a process, which must be a good one."""
        if process.wait(PATIENCE) != 0:
            raise RuntimeError(f"it ended with {process.returncode}: {(self.root / 'error.txt').read_text()[-2000:]}")

    def complete(self, folder: Folder, process: subprocess.Popen[bytes]) -> list[str]:
        """What was missed in a folder, when its last process is done."""
        self.finish(process)
        folder.last_look()
        return folder.misses


def disturb(scene: Scene, kind: str, count: int, draw: random.Random) -> tuple[list[Stop], list[str]]:
    """Stop processes `count` times with the signal that `kind` names, then let the last one finish."""
    done: list[Stop] = []
    misses: list[str] = []
    folder = scene.folder(f"{kind}-0")
    while len(done) < count:
        stale, start = folder.staging(), time.monotonic()
        process = scene.start(folder)
        wait_at_random(scene, process, folder, len(done), draw)
        seconds, sent = time.monotonic() - start, time.monotonic()
        process.send_signal(signal.Signals[kind])
        ended = process.wait(PATIENCE)
        if ended == 0:
            misses += scene.complete(folder, process)
            folder = scene.folder(f"{kind}-{len(done)}")
            continue
        writing, code = bool(folder.staging() - stale), 128 - ended if ended < 0 else ended
        done.append(Stop(kind, seconds, folder.look(), writing, time.monotonic() - sent, code))
        if code != 128 + signal.Signals[kind]:
            misses.append(f"{kind} {len(done)}: {done[-1]}")
    return done, misses + scene.complete(folder, scene.start(folder))


def wait_at_random(
    scene: Scene, process: subprocess.Popen[bytes], folder: Folder, number: int, draw: random.Random
) -> None:
    """Some time of the start (one time in six) or of the work; every other time until a set is being written."""
    if draw.random() < 1 / 6:
        time.sleep(draw.uniform(0, scene.start_seconds))
    elif number % 2:
        stale = folder.staging()
        for _ in range(draw.randint(1, 3)):
            wait(process, lambda: bool(folder.staging() - stale))  # noqa: B023  # called within this turn of the loop
            stale |= folder.staging()
    else:
        time.sleep(draw.uniform(0.5, 1) * scene.seconds)


def show(stops: Sequence[Stop], misses: Sequence[str]) -> None:
    """A table of what was done to the processes, and what was missed."""
    print("| | after | whole sets | writing | took | exit |\n|---|--:|--:|--|--:|--:|")
    for stop in stops:
        numbers = f"{stop.seconds:.2f} s | {stop.sets} | {'yes' if stop.writing else ''} | {stop.took:.2f} s"
        print(f"| {stop.kind} | {numbers} | {stop.code} |")
    print(f"\n{len(misses)} misses", *misses, sep="\n  ", flush=True)


def make_images(folder: Path, model: str) -> int:
    """Make what is missing in the folder; SIGTERM ends it behind the sets at work."""
    from m2m.evaluation.sets import EvaluationSets
    from m2m.loading import load_pipeline
    from m2m.model_folder import find_model

    with stop_signals() as received:
        found = find_model(model)
        pipe = load_pipeline(found, "cpu")
        pipe.set_progress_bar_config(disable=True)
        sets = EvaluationSets(SETS, given=4, real=0)
        done = generate(pipe, sets, folder, CONFIG, found.weight_digest(), stop=lambda: bool(received))
    return 0 if done else 128 + received[0]


def run(options: argparse.Namespace) -> int:
    """Returns how much was missed."""
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        scene = Scene(Path(root), options.model)
        files = f"{len(scene.expected)} files in {scene.seconds:.1f} s"
        print(f"undisturbed: {files}, {scene.start_seconds:.1f} s until the first set\n", flush=True)
        killed, missed = disturb(scene, "SIGKILL", options.kills, draw)
        ended, missed_too = disturb(scene, "SIGTERM", options.signals, draw)
    stops, misses = [*killed, *ended], [*missed, *missed_too]
    show(stops, misses)
    if options.out:
        plain = {"stops": [asdict(stop) for stop in stops], "misses": misses}
        write_json(options.out, {"seed": options.seed, "model": options.model, **plain})
    return len(misses)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often a process is killed")
    parser.add_argument("--signals", type=int, default=10, help="how often one gets SIGTERM")
    parser.add_argument("--model", default="tiny-self", help="folder, hub id or shipped name")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help="where to work; a temporary folder is made in it")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--generate", type=Path, metavar="FOLDER", help="be the process that makes the images there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = parse()
    sys.exit(make_images(given.generate, given.model) if given.generate else min(1, run(given)))
