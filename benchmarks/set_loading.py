"""Sets a second that reading gives, alone and without a model, by the number of worker processes.

    python benchmarks/set_loading.py world:mini:train:6000 [shards/train ...] [--workers 0 1 2] [--sets 6] [--images 4]

What a step needs is its sets divided by its seconds; what reading gives must be well above that. How long the steps of
a real run wait is in its progress line, as "waiting".
"""

from __future__ import annotations

import argparse
import time

from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.loading import batches
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.sets import SetData, open_sets

WARM_UP = 5  # batches before the clock starts: workers start, shards are opened, drawings are decoded


def main() -> None:
    """Print one row for each data and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", type=int, default=6, help="sets of a batch")
    parser.add_argument("--images", type=int, default=4, help="images of a set")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    options = parser.parse_args()
    print(f"{'data':40} {'workers':>8} {'sets/s':>8} {'MB/s':>8} {'first batch s':>14}")
    for name in options.data:
        data = open_sets(name, ReadConfig(images=options.images))
        for workers in options.workers:
            speed, megabytes, first = measure(data, options.sets, workers, options.seconds)
            print(f"{name:40} {workers:8} {speed:8.0f} {megabytes:8.1f} {first:14.2f}", flush=True)


def measure(data: SetData, sets: int, workers: int, seconds: float) -> tuple[float, float, float]:
    """Sets and megabytes a second over so many seconds, and seconds until the first batch is there."""
    started = time.perf_counter()
    loaded = batches(data, data.order(OrderConfig(sets)), workers)
    next(loaded)
    first = time.perf_counter() - started
    for _ in range(WARM_UP):
        next(loaded)
    read, size = 0, 0
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        batch = next(loaded)
        read += len(batch.keys)
        tensors = (batch.images, batch.latents, batch.features)
        size += sum(tensor.nbytes for tensor in tensors if tensor is not None)
    loaded.close()
    return read / passed, size / passed / 1e6, first


if __name__ == "__main__":
    main()
