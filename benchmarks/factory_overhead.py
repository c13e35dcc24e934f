"""What the factory costs beside a generator: images a second of a build over those of its generator alone.

    python benchmarks/factory_overhead.py                          # webp and jpg, 512 px, 480 images each
    python benchmarks/factory_overhead.py --formats webp --images 4000 --out overhead.json

The generator sleeps 1.0 s a batch of 8, as a process waits for its GPU, and hands out pictures that are about as hard
to encode as photographs: renderings of the tiny world with grain. All else is a real build on this disk, from the first
image to the manifest. The generator alone is timed before and after, for on a busy machine it too gets slower. Memory
is what the process has at most during the build beyond what it had before; each format has a process of its own.
Accepted: at least 97% in each format.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from m2m.checkpoint import write_json
from m2m.data.factory.build import build
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import SetPlan
from m2m.data.generators import Picture
from m2m.data.worlds import World

LEAST = 0.97
IMAGES_PER_SET, SETS_PER_SHARD = 20, 6
GRAIN = 6  # standard deviation, of 255
PICTURES = 16
ALONE = 8  # batches


class SleepingSets:
    """Sets whose images cost time but no processor, like those of a GPU."""

    def __init__(self, sets: int, batch: int, seconds: float, size: int) -> None:
        self.batch, self._seconds, self._sets = batch, seconds, sets
        world, draw = World.load("full"), np.random.default_rng(0)
        rendered = [world.render(caption, 0, size) for caption in world.captions("train", PICTURES, seed=0)]
        grain = draw.normal(0, GRAIN, (PICTURES, size, size, 3))
        self._pictures = [
            (image + noise).clip(0, 255).astype(np.uint8) for image, noise in zip(rendered, grain, strict=True)
        ]

    def settings(self) -> dict[str, Any]:
        return {"source": "sleeping"}

    def __len__(self) -> int:
        return self._sets

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        return [SetPlan(f"{number:08d}", IMAGES_PER_SET, {"caption": f"set {number}"}) for number in range(start, stop)]

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        time.sleep(self._seconds * len(requests) / self.batch)
        return [self._pictures[(int(plan.key) * 7 + number) % PICTURES].copy() for plan, number in requests]


def alone(source: SleepingSets) -> float:
    """Images a second of the generator, when nobody wants anything of them."""
    requests = [(source.sets(0, 1)[0], number) for number in range(source.batch)]
    start = time.perf_counter()
    for _ in range(ALONE):
        source.make(requests)
    return ALONE * source.batch / (time.perf_counter() - start)


def measure(options: argparse.Namespace, image_format: str) -> dict[str, float]:
    """One build, and what it did."""
    sets = max(1, round(options.images / IMAGES_PER_SET))
    source = SleepingSets(sets, options.batch, options.seconds, options.size)
    before = alone(source)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        out = Path(place) / "shards"
        settings = BuildSettings(out, (0, IMAGES_PER_SET), sets_per_shard=SETS_PER_SHARD, format=image_format)
        memory = _memory_now()
        start, busy = time.perf_counter(), time.process_time()
        report = build(source, settings)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        size = sum(path.stat().st_size for path in out.glob("*.tar"))
    generator = (before + alone(source)) / 2
    return {
        "images": report.images,
        "generator images/s": generator,
        "build images/s": report.images / seconds,
        "kept": report.images / seconds / generator,
        "processor seconds per image": busy / report.images,
        "bytes per image": size / report.images,
        "memory MB": (_memory_peak() - memory) / 1e6,
    }


def _memory_now() -> int:
    """Bytes that the process has; the peak is counted from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_peak()


def _memory_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def show(results: dict[str, dict[str, float]]) -> None:
    names = next(iter(results.values())).keys()
    print("| format | " + " | ".join(names) + " |\n|:--|" + "--:|" * len(names))
    for image_format, numbers in results.items():
        print(f"| {image_format} | " + " | ".join(f"{numbers[name]:.4g}" for name in names) + " |")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", default="webp,jpg", help="webp, jpg, png, with commas")
    parser.add_argument("--images", type=int, default=480, help="of each format, rounded to whole sets of 20")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="that the generator takes for a batch")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--folder", help="where to build; a temporary folder is made in it")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    fresh = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as process:
        results = {name: process.submit(measure, options, name).result() for name in options.formats.split(",")}
    show(results)
    if options.out:
        write_json(options.out, {"size": options.size, "batch": options.batch, **results})
    return results


if __name__ == "__main__":
    sys.exit(0 if all(numbers["kept"] >= LEAST for numbers in run(parse()).values()) else 1)
