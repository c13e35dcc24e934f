"""Shards that belong together: the slices of images of the same sets, made at different times, read as one.

Images 0:5 of some sets lie in one shard, 5:25 in another with the same index. The first slice lists every set; a later
one leaves out the sets that have no such images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.stored_set import StoredSet, image_counts
from m2m.data.shards import ManifestEntry, ShardError
from m2m.types import UserError

Images = tuple[int, int]


@dataclass(frozen=True)
class ShardGroup:
    """The slices of one index, by ascending images; they hold the sets start .. start + count - 1 of the data."""

    folder: ShardFolder
    slices: tuple[ManifestEntry, ...]
    start: int

    @property
    def count(self) -> int:
        """How many sets."""
        return self.slices[0].count


class OpenGroup:
    """The open shards of a group. within: only images a .. b - 1 count, and slices without any stay closed.

    Raises ShardError where a shard is damaged, or where a later slice holds other sets than the first.
    """

    def __init__(self, group: ShardGroup, within: Images | None) -> None:
        self._within = within
        first = group.folder.open(group.slices[0])
        later = [group.folder.open(entry) for entry in group.slices[1:] if _overlaps(entry.images, within)]
        self._shards = [first, *later]
        self.keys = [sample.key for sample in first.record.samples]
        self._rows = [{sample.key: row for row, sample in enumerate(shard.record.samples)} for shard in self._shards]
        for shard, rows in zip(later, self._rows[1:], strict=True):
            if strange := sorted(rows.keys() - self._rows[0].keys()):
                raise ShardError(f"'{shard.path}' holds the set '{strange[0]}', which '{first.path}' does not")

    def stored(self, row: int) -> StoredSet:
        """Set number `row` of the group, its bytes checked. Raises ShardError."""
        key = self.keys[row]
        shards = zip(self._shards, self._rows, strict=True)
        return StoredSet(key, [(shard, rows[key]) for shard, rows in shards if key in rows], self._within)

    def image_counts(self) -> NDArray[np.int64]:
        """How many images each set has, from the headers of the shards alone. Raises ShardError."""
        counts = dict.fromkeys(self.keys, 0)
        for shard in self._shards:
            for key, images in image_counts(shard, self._within):
                counts[key] += images
        return np.array([counts[key] for key in self.keys], dtype=np.int64)

    def close(self) -> None:
        """Close the files."""
        for shard in self._shards:
            shard.close()


def groups_of(folders: Sequence[ShardFolder]) -> list[ShardGroup]:
    """The shards of all folders: by folder in the order given, then by index.

    Raises UserError for a shard that comes twice, ShardError for a slice that claims more sets than the first.
    """
    _check_no_shard_twice(folders)
    groups: list[ShardGroup] = []
    start = 0
    for folder in folders:
        by_index: dict[int, list[ManifestEntry]] = {}
        for entry in folder.manifest.shards:
            by_index.setdefault(entry.index, []).append(entry)
        for _, unordered in sorted(by_index.items()):
            slices = tuple(sorted(unordered, key=_first_image))
            _check_counts(slices, folder.address)
            groups.append(ShardGroup(folder, slices, start))
            start += slices[0].count
    return groups


def _check_counts(slices: Sequence[ManifestEntry], address: str) -> None:
    for entry in slices[1:]:
        if entry.count > slices[0].count:
            raise ShardError(
                f"'{address}/{entry.name}' has {entry.count} sets, '{slices[0].name}' only {slices[0].count}"
            )


def _check_no_shard_twice(folders: Sequence[ShardFolder]) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        for entry in folder.manifest.shards:
            place = f"{folder.address}/{entry.name}"
            if entry.count and entry.sha256 in seen:
                raise UserError(
                    f"'{seen[entry.sha256]}' and '{place}' are the same shard: its sets would be read twice"
                )
            seen[entry.sha256] = place


def _overlaps(images: Images, within: Images | None) -> bool:
    return within is None or (images[0] < within[1] and within[0] < images[1])


def _first_image(entry: ManifestEntry) -> int:
    return entry.images[0]
