"""What a build has to do: one job per shard, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2m.data.factory.settings import BuildSettings
from m2m.data.shards import shard_name
from m2m.types import UserError

Slice = tuple[int, int]


@dataclass(frozen=True)
class ShardJob:
    """One shard: images a .. b - 1 of the sets start .. stop - 1. It is a function of the folder's identity alone."""

    index: int
    images: Slice
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The shard's file name without its suffix."""
        return shard_name(self.index, self.images)


def jobs_of(slices: Sequence[Slice], sets: int, sets_per_shard: int) -> list[ShardJob]:
    """Every job of a folder: the first slice of images of all sets, then the next, each in the order of the sets."""
    return [
        ShardJob(index, images, index * sets_per_shard, min((index + 1) * sets_per_shard, sets))
        for images in slices
        for index in range(shards_of(sets, sets_per_shard))
    ]


def plan_jobs(settings: BuildSettings, slices: Sequence[Slice], sets: int) -> list[ShardJob]:
    """The jobs that these settings ask for, whether their shards are there or not.

    slices: all slices of the folder, from `folder.open_folder`. Raises UserError where `shards` names none.
    """
    first, last = settings.images
    wanted = [images for images in slices if first <= images[0] and images[1] <= last]
    jobs = jobs_of(wanted, sets, settings.sets_per_shard)
    check_shards(settings, sets)
    if settings.shards is not None:
        start, stop = settings.shards
        jobs = [job for job in jobs if start <= job.index < stop]
    if settings.only is not None:
        jobs = [job for job in jobs if job.name in settings.only]
    return jobs


def check_shards(settings: BuildSettings, sets: int) -> None:
    """Raise UserError where the settings ask for shards that these sets do not have."""
    start, stop = settings.shards or (0, 0)
    there = shards_of(sets, settings.sets_per_shard)
    if stop > there:
        raise UserError(f"shards {start}:{stop} do not exist; {sets} sets make the shards 0:{there}")


def shards_of(sets: int, sets_per_shard: int) -> int:
    """How many shards so many sets make, for one slice of images."""
    return -(-sets // sets_per_shard)


def extended(slices: Sequence[Slice], images: Slice, where: str) -> list[Slice]:
    """The slices 0:a, a:b, ... of a folder with `images` added, which may repeat some of them and continue the last.

    Raises UserError where a slice would be cut in two, or images before `images` would be left out.
    """
    ends = [0, *(end for _, end in slices)]
    covered = ends[-1]
    first, last = images
    if first > covered:
        raise UserError(
            f"images {first}:{last} leave a gap in '{where}', which has 0:{covered}; ask for {covered}:{last}"
        )
    if first not in ends or (last < covered and last not in ends):
        had = ", ".join(f"{a}:{b}" for a, b in slices)
        raise UserError(f"images {first}:{last} cut a slice of '{where}' in two; ask for whole ones: {had}")
    return [*slices, (covered, last)] if last > covered else list(slices)
