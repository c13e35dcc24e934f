"""A small run of `m2m train` as benchmarks see it: from outside, by its folder, and beside an undisturbed one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, sha256_of_files, write_json
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.sets import open_sets
from m2m.training.state import FOLDER, MANIFEST, checkpoints

INTERVAL = 3  # steps between two checkpoints
SETS, BATCH, IMAGES = 25, 2, 3  # an epoch ends within a batch
PATIENCE = 600.0  # seconds for what hangs; on a busy machine, a start takes a while
SETTINGS: dict[str, Any] = {
    "data": f"world:mini:train:{SETS}",
    "variant": "self",
    "unet": {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "attention_head_dim": [2, 4],
        "norm_num_groups": 8,
        "dropout": 0.1,  # draws from the global generator, whose state must survive
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
    "batch_sets": BATCH,
    "images_per_set": IMAGES,
    "warmup_steps": 2,
    "checkpoint_every": INTERVAL,
    "log_every": 1,
    "threads": 1,
    "workers": 1,
}


class Run:
    """The folder of a run, seen from outside. expected, losses: what each step's checkpoint holds, and its loss."""

    def __init__(self, folder: Path, expected: dict[int, dict[str, Any]], losses: dict[int, float]) -> None:
        self.folder = folder
        self.misses: list[str] = []
        self._expected = expected
        self._losses = losses
        self._kept = 0

    def kept(self) -> int:
        """The step of the newest checkpoint; 0: there is none."""
        return max((int(folder.name.removeprefix("step-")) for folder in checkpoints(self.folder)), default=0)

    def reached(self) -> int:
        """The last step that was done, as the run has recorded it."""
        return max(losses(self.folder), default=0)

    def staging(self) -> set[str]:
        """Checkpoints that are being written, or were when a run was killed."""
        return {path.name for path in (self.folder / FOLDER).glob(".step-*")}

    def look(self) -> tuple[int, int]:
        """After the end of a process: what was reached, what is kept; and note what must not be."""
        reached, kept = self.reached(), self.kept()
        if reached - kept > INTERVAL:
            self.misses.append(f"{self.folder.name}: step {reached} was done, and only {kept} is kept")
        if kept < self._kept:
            self.misses.append(f"{self.folder.name}: the checkpoint of step {self._kept} is gone, the newest is {kept}")
        if kept and contents(checkpoints(self.folder)[-1]) != self._expected[kept]:
            self.misses.append(f"{self.folder.name}: the checkpoint of step {kept} is not the undisturbed one")
        self._kept = kept
        return reached, kept

    def last_look(self) -> None:
        """After the last step: every step must have come to what it comes to undisturbed."""
        self.look()
        found = losses(self.folder)
        if found != self._losses:
            wrong = [step for step in self._losses if found.get(step) != self._losses[step]]
            self.misses.append(f"{self.folder.name}: steps {wrong} have other losses than undisturbed")


def losses(folder: Path) -> dict[int, float]:
    """The loss of each step that was recorded. Raises ValueError for a step that stands there twice."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith(b"\n")]  # a kill may leave half a line
    found = {row["step"]: row["train/loss"] for row in rows}
    if len(found) != len(rows):
        raise ValueError(f"'{path}' has a step twice")
    return found


def contents(checkpoint: Path) -> dict[str, Any]:
    """Digest of every file of a checkpoint but the manifest, and what that says beside the config."""
    manifest = read_json(checkpoint / MANIFEST)
    del manifest["config"]
    return {**manifest, **{path.name: sha256_of_files([path]) for path in checkpoint.glob("*.safetensors")}}


class Scene:
    """The command that trains, and what it comes to undisturbed."""

    def __init__(self, root: Path, steps: int) -> None:
        self.root, self.steps = root, steps
        _save_autoencoder(root / "autoencoder")
        settings = {**SETTINGS, "autoencoder": str(root / "autoencoder"), "steps": steps}
        write_json(root / "train.yaml", settings)  # JSON is YAML
        start = time.monotonic()
        run = Run(root / "undisturbed", {}, {})
        process = self.start(run, "checkpoint_every=1", "keep_every=1")
        self.wait_for_work(process, run)
        self.start_seconds = time.monotonic() - start
        self.save_seconds = _save_seconds(process, run)
        self.finish(process)
        self.work_seconds = time.monotonic() - start - self.start_seconds
        folders = checkpoints(run.folder)
        self.expected = {step: contents(folder) for step, folder in enumerate(folders, start=1)}
        self.losses = losses(run.folder)
        self.size = sum(path.stat().st_size for path in folders[-1].iterdir())

    def run(self, name: str) -> Run:
        """A new folder for a run."""
        return Run(self.root / name, self.expected, self.losses)

    def start(self, run: Run, *more: str) -> subprocess.Popen[bytes]:
        """`m2m train` in the run's folder. What it says goes to files: orphaned workers would hold a pipe open."""
        words = [sys.executable, "-m", "m2m", "train", "--config", str(self.root / "train.yaml"), f"out={run.folder}"]
        with open(self.root / "out.txt", "wb") as out, open(self.root / "error.txt", "wb") as error:
            return subprocess.Popen([*words, *more], stdout=out, stderr=error)

    def errors(self) -> tuple[str, ...]:
        """The lines that the last process has written to its standard error."""
        return tuple((self.root / "error.txt").read_text().splitlines())

    def wait_for_work(self, process: subprocess.Popen[bytes], run: Run) -> None:
        """Wait until the process has done a step, or has ended."""
        record = run.folder / "metrics.jsonl"
        before = _changed(record)
        wait(process, lambda: _changed(record) != before and run.reached() > run.kept())

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a process, which must be a good one."""
        if process.wait(PATIENCE) != 0:
            raise RuntimeError(f"`m2m train` ended with {process.returncode}: {self.errors()}")

    def check_order(self) -> str:
        """Whether the cursors are those of an order that reads every set once an epoch; says how much was read."""
        order = open_sets(SETTINGS["data"]).order(OrderConfig(BATCH))
        plans = list(islice(order, self.steps))
        if [plan.cursor.as_json() for plan in plans] != [kept["cursor"] for kept in self.expected.values()]:
            raise RuntimeError("the cursors are not those of the order")
        visits = Counter((visit.epoch, visit.index) for plan in plans for visit in plan.visits)
        whole = len(visits) // SETS
        once = {(epoch, index): 1 for epoch in range(whole) for index in range(SETS)}
        if max(visits.values()) > 1 or once.keys() - visits.keys():
            raise RuntimeError("the order reads a set twice in an epoch, or leaves one out")
        return f"{len(visits)} sets, each once in each of {whole} whole epochs"


def wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Wait until something is so, or the process ends."""
    start = time.monotonic()
    while process.poll() is None and not condition():
        if time.monotonic() - start > PATIENCE:
            process.kill()
            raise RuntimeError(f"nothing happened in {PATIENCE:.0f} s")
        time.sleep(0.002)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _save_autoencoder(folder: Path) -> None:
    """Random weights: what the latents show matters to nobody here."""
    import torch

    from m2m.model.autoencoder import TinyAutoencoder

    torch.manual_seed(0)
    sizes = {"patch_size": 4, "encoder_layers": 1, "decoder_layers": 1, "norm_num_groups": 4}
    TinyAutoencoder(latent_channels=4, block_out_channels=(3, 12, 16, 16), **sizes).save_pretrained(folder)


def _save_seconds(process: subprocess.Popen[bytes], run: Run) -> float:
    """How long a save takes, by the middle one of some."""
    seconds = []
    while process.poll() is None and len(seconds) < 5:
        wait(process, lambda: bool(run.staging()))
        start = time.monotonic()
        wait(process, lambda: not run.staging())
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)
