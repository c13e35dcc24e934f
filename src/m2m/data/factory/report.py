"""What a run of a build tells: how far it is, what it did, and what went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from m2m.data.factory.folder import Failure


@dataclass(frozen=True)
class BuildProgress:
    """shards: how many of `shards_total` are whole; images: how many this run has committed."""

    shards: int
    shards_total: int
    images: int


@dataclass(frozen=True)
class BuildReport:
    """What a run did. Shards are given by name.

    wanted: what the settings asked for; made: by this run; failed: set aside; left: not finished, because the run was
    stopped; images: committed by this run; complete: whether the folder now holds every shard of its slices.
    """

    wanted: tuple[str, ...]
    made: tuple[str, ...]
    failed: tuple[Failure, ...]
    left: tuple[str, ...]
    images: int
    complete: bool


Progress = Callable[[BuildProgress], None]


def failure_of(name: str, attempts: int, error: BaseException) -> Failure:
    """An exception as it is kept of a shard that is set aside."""
    lines = str(error).splitlines() or [""]
    return Failure(name, attempts, f"{type(error).__name__}: {lines[0]}", "".join(traceback.format_exception(error)))
