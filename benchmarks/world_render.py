"""Milliseconds per rendered picture of the tiny world, by style, on one core.

    python benchmarks/world_render.py [--world mini|full] [--size 64] [--pictures 500]

The first pictures decode the drawings they need and are not counted; in use that cost is paid once.
"""

from __future__ import annotations

import argparse
import statistics
import time

from m2m.data.worlds import World


def main() -> None:
    """Print one row a style: median and mean of a picture, scene included."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="mini", choices=("mini", "full"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=500)
    options = parser.parse_args()
    started = time.perf_counter()
    world = World.load(options.world)
    world.render("things", 0, options.size)
    print(f"{options.world} world, {options.size} px; first picture after {time.perf_counter() - started:.2f} s")
    print(f"{'style':14} {'median ms':>10} {'mean ms':>10}")
    for style in world.styles:
        times = measure(world, f"things, {style} style", options.size, options.pictures)
        print(f"{style:14} {statistics.median(times):10.2f} {statistics.fmean(times):10.2f}")


def measure(world: World, caption: str, size: int, pictures: int) -> list[float]:
    """Render each picture twice, so that its drawings are decoded, and return the milliseconds of the second time."""
    times = []
    for seed in range(pictures):
        world.render(caption, seed, size)
        started = time.perf_counter()
        world.render(caption, seed, size)
        times.append(1000 * (time.perf_counter() - started))
    return times


if __name__ == "__main__":
    main()
