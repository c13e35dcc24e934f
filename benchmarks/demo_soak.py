"""Does the demo last? Visitors in a row at the real page of a real server, and what it holds in memory after each.

    python benchmarks/demo_soak.py [--visitors 20] [--generations 200] [--steps 2] [--images 2]

Every visitor opens the page in a browser of their own, uploads two pictures, generates their share of the
generations, fetches the ZIP and leaves. Printed for each: seconds from opening the page to the first finished image,
and the server's resident memory. The slope is the least-squares line through the memory after each generation of the
second half, when caches have filled. Wanted: no failure, less than 1 MB per 10 generations, a first image within 20 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.demo_server import Server, browser, browser_path, demo_server
from tests.browser.visitor import Visitor

WANTED_SLOPE, WANTED_SECONDS = 1.0, 20.0
EXAMPLES = Path(__file__).resolve().parent.parent / "src/m2m/demo/examples"


def main() -> int:
    """Print one line a visitor and the totals; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--generations", type=int, default=200, help="of all visitors together")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of an image")
    parser.add_argument("--images", type=int, default=2, help="images of a generation")
    options = parser.parse_args()
    path = browser_path()
    if path is None:
        parser.error("no browser: install chromium, or name one by M2M_CHROMIUM")
    share = options.generations // options.visitors
    memory: list[float] = []
    first, failures = [], 0
    with tempfile.TemporaryDirectory() as temporary, demo_server(Path(temporary)) as server, browser(path) as opened:
        for number in range(options.visitors):
            try:
                first.append(visit(opened, server, number, share, options, memory))
                print(f"visitor {number + 1:3}  first image {first[-1]:5.1f} s  {memory[-1]:8.1f} MB", flush=True)
            except Exception as error:  # whatever it was, the next visitor comes
                failures += 1
                print(f"visitor {number + 1:3}  failed: {str(error).splitlines()[0]}", flush=True)
    return report(memory, first, failures)


def visit(
    opened: object, server: Server, number: int, share: int, options: argparse.Namespace, memory: list[float]
) -> float:
    """One visitor; seconds from opening the page to the first finished image."""
    pictures = sorted(EXAMPLES.glob("*/*.png"))
    started = time.perf_counter()
    visitor = Visitor(opened, server.address)
    try:
        visitor.upload(*(pictures[(number + shift) % len(pictures)] for shift in (0, 1)))
        visitor.wait_for("given", 2)
        visitor.set(number=options.images, denoising=options.steps, seed=number)
        seconds = 0.0
        for _ in range(share):
            visitor.generate(options.images)
            seconds = seconds or time.perf_counter() - started
            memory.append(psutil.Process(server.process).memory_info().rss / 1e6)
        with tempfile.TemporaryDirectory() as folder:
            visitor.download(Path(folder))
        return seconds
    finally:
        visitor.leave()


def report(memory: list[float], first: list[float], failures: int) -> int:
    """Print the totals; the exit code is 1 where something wanted was missed."""
    late = memory[len(memory) // 2 :]
    slope = 10 * float(np.polyfit(range(len(late)), late, 1)[0]) if len(late) > 1 else float("nan")
    slowest = max(first, default=float("nan"))
    print(f"{len(memory)} generations, {failures} failed visitors")
    print(f"memory {memory[0]:.1f} -> {memory[-1]:.1f} MB, slope of the second half {slope:+.2f} MB per 10 generations")
    print(f"opening the page to the first image: median {np.median(first):.1f} s, slowest {slowest:.1f} s")
    return int(bool(failures) or not slope < WANTED_SLOPE or not slowest < WANTED_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
