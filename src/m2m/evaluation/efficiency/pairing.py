"""Ratios that hold on a busy machine: alternatives take turns (A B C, A B C, ..), each is compared with its neighbour.

Two clocks: wall time, which is what a user waits for, and the processor time of this process, which other processes
disturb less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds of one alternative, a round each."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the first alternative: median of the rounds' ratios, and their range."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.lowest:.3f} to {self.highest:.3f})"


def take_turns(
    alternatives: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    finish: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Runs every alternative once a round; ``warm_up`` rounds do not count, ``finish`` waits for the device."""
    times = {name: Times() for name in alternatives}
    for round_ in range(warm_up + rounds):
        for name, run in alternatives.items():
            finish()
            wall, processor = time.perf_counter(), time.process_time()
            run()
            finish()
            if round_ >= warm_up:
                times[name].wall.append(time.perf_counter() - wall)
                times[name].processor.append(time.process_time() - processor)
    return times


def ratio(those: list[float], first: list[float]) -> Ratio:
    """Round by round, ``those`` over ``first``."""
    ratios = [a / b for a, b in zip(those, first, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
