"""Who does the work of an evaluation: which share of it, who is told how far it is, and when it is to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int], None]


class Stopped(Exception):
    """A signal came: what is done is kept, and the same call goes on there."""


def _nothing() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Work:
    """share: (rank, ranks). progress: label of a stage -> what is told (sets done, sets in all), or None. stop: asked
    between two batches. barrier: waits for the other processes.
    """

    share: tuple[int, int] = (0, 1)
    progress: Callable[[str], Progress | None] = lambda label: None
    stop: Callable[[], bool] = lambda: False
    barrier: Callable[[], None] = _nothing

    def check(self) -> None:
        """Raise Stopped where the work is to stop."""
        if self.stop():
            raise Stopped
