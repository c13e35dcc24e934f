"""Image sets out of shards, for training: any N images of a set, from one folder or many, here or behind a URL.

    dataset = ImageSetDataset("shards/train", ReadConfig(images=5, seed=0))
    order = dataset.order(OrderConfig(batch_sets=64, rank=rank, ranks=ranks), start=Cursor.from_json(saved))
    for batch in DataLoader(dataset, sampler=order, batch_size=None, num_workers=4):
        ...  # batch.images, .latents, .features, .conditions; save batch.cursor.as_json() with the checkpoint

Which images of a set are drawn follows from (seed, epoch, key of the set) alone: no rank, worker or resume changes it.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.data.reading.image_set import ImageSet
from m2m.data.reading.order import Cursor, OrderConfig, SetOrder
from m2m.data.reading.sets import SetData
from m2m.data.reading.shard_files import Address, ShardCache, ShardFolder, find_folders
from m2m.data.reading.shard_groups import OpenGroup, groups_of
from m2m.data.reading.stored_set import ENCODERS, FEATURES, LATENTS
from m2m.types import UserError

OPEN_GROUPS = 64  # shards (and their slices) that a process keeps open; a shuffle block of 1000 sets lies in about ten


@dataclass(frozen=True)
class ReadConfig:
    """What is read of every set.

    Attributes:
        images: N, how many images are drawn of each set at every visit; None: all of them.
        within: draw from images a .. b - 1 only, (0, 5): the first five; slices without any of them stay closed.
        seed: draws the images, with the epoch and the set's key.
        ordered: hand the images out by ascending number; else in the order drawn.
        consecutive: draw N neighbours, of which the first is drawn, by ascending number: a part of a procedure. Images
            that a set lacks have no place in it.
        size: pictures become their middle square, resized to this side; None: as stored. Latents are of one size.
        too_few: what a set with fewer than N images is: "error", or "skip" to leave it out.
    """

    images: int | None = None
    within: tuple[int, int] | None = None
    seed: int = 0
    ordered: bool = False
    consecutive: bool = False
    size: int | None = None
    too_few: str = "error"

    def __post_init__(self) -> None:
        """Raise UserError for what cannot be read."""
        if self.images is not None and self.images < 1:
            raise UserError(f"images is {self.images}: draw 1 or more, or None for all of them")
        if self.within is not None and not 0 <= self.within[0] < self.within[1]:
            raise UserError(f"within is {self.within}: (a, b) means the images a .. b - 1, with 0 <= a < b")
        if self.size is not None and self.size < 1:
            raise UserError(f"size is {self.size}: pixels of a side, 1 or more")
        if self.too_few not in ("error", "skip"):
            raise UserError(f"too_few is '{self.too_few}': use 'error' or 'skip'")

    def draw(self, numbers: Sequence[int], epoch: int, key: str, where: str) -> tuple[int, ...]:
        """N of a set's image numbers, a function of (seed, epoch, key). Raises UserError, at `where`, for too few."""
        if len(numbers) < (self.images or 1):
            raise UserError(
                f"{where} has {len(numbers)} images, {self.images or 1} are wanted; ask for fewer, or leave such sets "
                "out (too_few='skip')"
            )
        seed = hashlib.blake2b(f"{self.seed}/{epoch}/{key}".encode(), digest_size=8).digest()
        generator = np.random.default_rng(int.from_bytes(seed, "big"))
        if self.consecutive:
            images = self.images or len(numbers)
            start = int(generator.integers(len(numbers) - images + 1))
            return tuple(sorted(numbers)[start : start + images])
        drawn = generator.permutation(numbers)[: self.images].tolist()
        return tuple(sorted(drawn) if self.ordered else drawn)


class ImageSetDataset(SetData):
    """The sets of one or more folders of shards, numbered through; map-style.

    `dataset[i]` is the ImageSet number i as epoch 0 sees it. With a `SetOrder` as the sampler, a `DataLoader` gets an
    ImageSetBatch at a time.

    Args:
        data: a folder, a glob of folders, a URL below which a folder of shards lies, or a list of such.
        config: what is read of every set.
        cache_dir: folder for the shards of URLs; cache_bytes: how much it may hold, None: everything.

    Raises UserError (ShardError, if it is a shard's fault) where a folder is missing or has no manifest, lacks a shard,
    or has slices with other sets. A folder that is not complete can be read, with a warning.
    """

    def __init__(
        self,
        data: Address | Sequence[Address],
        config: ReadConfig | None = None,
        cache_dir: Address | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.config = config or ReadConfig()
        cache = None if cache_dir is None else ShardCache(cache_dir, cache_bytes)
        self._folders = [ShardFolder(address, cache) for address in find_folders(data)]
        self._groups = groups_of(self._folders)
        self._starts = np.array([group.start for group in self._groups])
        self._length = sum(group.count for group in self._groups)
        self._image_counts: dict[int, NDArray[np.int64]] = {}  # by group, filled when sets are left out
        self._open: OrderedDict[int, OpenGroup] = OrderedDict()
        self._check_encoders()
        for folder in self._folders:
            if not folder.manifest.complete:
                warnings.warn(f"'{folder.address}' is not complete: only its finished shards are read", stacklevel=2)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """What each folder was made with."""
        return [folder.manifest.settings for folder in self._folders]

    @property
    def counts(self) -> list[int]:
        """How many sets every shard has, or all slices of it."""
        return [group.count for group in self._groups]

    def __len__(self) -> int:
        """How many sets, those included that are left out for too few images."""
        return self._length

    def visit(self, index: int, epoch: int) -> ImageSet:
        """Set number `index` with the images that this epoch draws. Raises ShardError for damage."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no set {index} among {len(self)}")
        number = self._group_of(index)
        stored = self._opened(number).stored(index - self._groups[number].start)
        numbers = self.config.draw(stored.numbers, epoch, stored.key, stored.where)
        read = ImageSet(stored.key, stored.caption, numbers, conditions=stored.conditions(numbers))
        if stored.encoded:
            return replace(read, latents=stored.array(LATENTS, numbers), features=stored.array(FEATURES, numbers))
        return replace(read, images=stored.pictures(numbers, self.config.size))

    def order(self, config: OrderConfig, start: Cursor | None = None) -> SetOrder:
        """The sampler over these sets, from a cursor on."""
        keeps = self._has_enough if self.config.too_few == "skip" else None
        return SetOrder(self.counts, config, start, keeps, data=self._digest())

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes that are not forks: open files stay here."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _group_of(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _opened(self, number: int) -> OpenGroup:
        """The open shards of group `number`; those that were not read for longest are closed."""
        if number not in self._open:
            self._open[number] = OpenGroup(self._groups[number], self.config.within)
        self._open.move_to_end(number)
        while len(self._open) > OPEN_GROUPS:
            self._open.popitem(last=False)[1].close()
        return self._open[number]

    def _has_enough(self, index: int) -> bool:
        """Whether set number `index` has N images."""
        number = self._group_of(index)
        if number not in self._image_counts:
            self._image_counts[number] = self._opened(number).image_counts()
        images = self._image_counts[number][index - self._groups[number].start]
        return bool(images >= (self.config.images or 1))

    def _digest(self) -> str:
        """Of everything that says which sets there are, and which of them are left out."""
        shards = [[entry.name, entry.count, entry.sha256] for group in self._groups for entry in group.slices]
        left_out = [self.config.images, self.config.within] if self.config.too_few == "skip" else []
        return hashlib.sha256(json.dumps([shards, left_out]).encode()).hexdigest()

    def _check_encoders(self) -> None:
        """All folders hold pictures, or all latents of the same encoders; those of others look alike and are not."""
        first, *others = self._folders
        wanted = first.manifest.settings.get(ENCODERS)
        for folder in others:
            found = folder.manifest.settings.get(ENCODERS)
            if found != wanted:
                kinds = f"'{first.address}' holds {_kind(wanted)}, '{folder.address}' {_kind(found)}"
                raise UserError(f"{kinds}: they do not go together; give one kind")
        stored = first.manifest.settings.get("size")
        if wanted is not None and self.config.size not in (None, stored):
            raise UserError(
                f"'{first.address}' holds latents of {stored} pixels; {self.config.size} cannot be made of them"
            )


def _kind(encoders: Any) -> str:
    return "pictures" if encoders is None else f"latents of the encoders {json.dumps(encoders, sort_keys=True)}"
