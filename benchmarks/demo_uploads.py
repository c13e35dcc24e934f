"""What does each hostile upload cost the demo? Seconds and memory of reading it, and what is left behind.

    python benchmarks/demo_uploads.py [--repeats 3] [--all]

The files are those of tests/demo/hostile.py. Each is read in a fresh process, whose own and whose reader's processor
time and largest memory are taken from the system; "seconds" is the clock. Of several repeats the fastest counts: what
else the machine does is not the upload's cost. Exit code 1 where one crashed, left a file, took 1 s or 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from m2m.demo.uploads import read_upload
from m2m.types import UserError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.demo.hostile import hostile_uploads  # noqa: E402 found by the line above

SECONDS, GIGABYTES = 1.0, 2.0
COLUMNS = ("seconds", "processor", "GB", "outcome")


class Cost(NamedTuple):
    """Seconds on the clock, seconds of processor time, GB of the largest process, and what became of it."""

    seconds: float
    processor: float
    gigabytes: float
    outcome: str


def main() -> int:
    """Print the dearest uploads and the totals; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="print every upload, not the ten dearest")
    parser.add_argument("--read", help=argparse.SUPPRESS)  # what a fresh process is told: the path to read
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(read(options.read)))
        return 0
    costs = {case: cost_of(case, options.repeats) for case in hostile_uploads()}
    dearest = sorted(costs, key=lambda case: -costs[case].seconds)
    print(f"{'':28}" + "".join(f"{name:>11}" for name in COLUMNS))
    for case in dearest[: None if options.all else 10]:
        print_row(case, costs[case])
    most = [max(column) for column in list(zip(*costs.values(), strict=True))[:3]]
    print_row(f"most of {len(costs)}", Cost(*most, ""))
    missed = [case for case, cost in costs.items() if is_missed(cost)]
    print(f"missed: {', '.join(missed) or 'none'}")
    return int(bool(missed))


def print_row(name: str, cost: Cost) -> None:
    print(f"{name:28}{cost.seconds:11.2f}{cost.processor:11.2f}{cost.gigabytes:11.2f}{cost.outcome:>11}", flush=True)


def is_missed(cost: Cost) -> bool:
    return cost.outcome not in ("picture", "refused") or cost.seconds >= SECONDS or cost.gigabytes >= GIGABYTES


def cost_of(case: str, repeats: int) -> Cost:
    """Make the file, read it in fresh processes, and look for what is left in the folder that they ran in."""
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory() as home:
        path = hostile_uploads()[case](Path(temporary))
        before = set(Path(temporary).rglob("*"))
        costs = [in_fresh_process(path, home) for _ in range(repeats)]
        left = set(Path(temporary).rglob("*")) != before or any(Path(home).iterdir())
    best = min(costs)
    return best._replace(outcome="left a file") if left else best


def in_fresh_process(path: Path, home: str) -> Cost:
    # As JSON: a name may hold what no argument may.
    command = [sys.executable, str(Path(__file__).resolve()), "--read", json.dumps(str(path))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home)
    return Cost(*json.loads(done.stdout)) if done.returncode == 0 else Cost(0, 0, 0, "crashed")


def read(path: str) -> Cost:
    started = time.perf_counter()
    own = processor(resource.RUSAGE_SELF)
    try:
        read_upload(json.loads(path))
        outcome = "picture"
    except UserError:
        outcome = "refused"
    seconds = time.perf_counter() - started
    spent = processor(resource.RUSAGE_SELF) - own + processor(resource.RUSAGE_CHILDREN)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(seconds, spent, largest * 1024 / 1e9, outcome)  # Linux counts in KiB


def processor(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
