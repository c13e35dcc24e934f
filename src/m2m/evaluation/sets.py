"""The sets of an evaluation: the images that a model is given, further ones of the same sets, and their captions.

A set is read when it is asked for: 10,000 sets of 512 pixels are never in memory at once.

    sets = EvaluationSets("shards/test", count=10_000, given=4, real=10)
    sets = EvaluationSets("world:mini:test:3000", count=300, only="one-object")
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from m2m.data.pictures import pixels_from_images
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.sets import open_sets
from m2m.data.reading.shard_files import Address, ShardCache, ShardFolder, find_folders
from m2m.data.reading.shard_groups import OpenGroup, groups_of
from m2m.data.worlds import Caption
from m2m.data.worlds.specs import WorldSpec, is_world
from m2m.evaluation.tasks.task_sets import TaskSets
from m2m.evaluation.truth.held_out import closest_pair
from m2m.types import UserError

Data = Address | Sequence[Address]
CaptionFilter = Callable[[str], bool]

KEPT_BYTES = 256 << 20  # of sets that were read: the tiny world's are painted once, large ones read again
WORDS_SIZE = 16  # pixels of a side of the one picture that is read where only key and caption of a set are wanted
COMPARED = 64  # pixels of a side at which pictures are compared pixel by pixel


@dataclass(frozen=True)
class EvaluationSet:
    """One set. given [G, H, W, 3] and real [R, H, W, 3], further images of the set, are uint8.

    caption: empty where the set has none. real: fewer than were asked for where the set has no more. closest_pair: root
    mean square distance of the two closest of all these images, in pixels in [-1, 1]; None where there are no two.
    numbers: of all these images in their set; stored: float32 [G + R, D], what the data hold of each for a task.
    """

    key: str
    caption: str
    given: Tensor
    real: Tensor
    closest_pair: float | None
    numbers: tuple[int, ...] = ()
    stored: Tensor | None = None


class EvaluationSets:
    """Sets of pictures, numbered through, each read when it is asked for; those read last are kept.

    Args:
        data: shards of pictures (a folder, a glob, a URL, a list of such) or "world:NAME:SPLIT:COUNT[:SEED]".
        count: how many sets; None: all. Of shards a choice drawn with `seed`, of a world the first ones.
        given: G, the first images of a set. A set with fewer is left out, and counted in `left_out`.
        real: R, how many further images are read, if the set has them.
        size: pictures become their middle square, resized to this side; None: as stored.
        only: which captions count: a name out of CAPTION_FILTERS, or a function of the caption.
        cache_dir: folder for the shards of URLs.
        task: what a fine-tuned task asks of its sets; None: they are no task's.

    Raises UserError where there are no such sets or fewer than asked for, and for shards of latents.
    """

    def __init__(
        self,
        data: Data,
        count: int | None = None,
        given: int = 4,
        real: int = 10,
        size: int | None = None,
        only: str | CaptionFilter | None = None,
        seed: int = 0,
        cache_dir: Address | None = None,
        task: TaskSets | None = None,
    ) -> None:
        if given < 1 or real < 0 or (count is not None and count < 1):
            raise UserError(f"count is {count}, given {given}, real {real}: use 1 or more sets and given images")
        self.given, self.size, self.task = given, size, task
        within = (0, given + real)
        self._data = open_sets(data, ReadConfig(within=within, ordered=True, size=size), cache_dir)
        if self._data.encoders is not None:
            raise UserError(f"'{data}' holds latents; pictures are needed: name the folder that they were made from")
        self._words = open_sets(data, ReadConfig(images=1, within=within, size=WORDS_SIZE), cache_dir)
        counts, self._content = _survey(data, self._data.settings, given + real, cache_dir)
        needed = given + (task.further if task else 0)
        enough = np.flatnonzero(counts >= needed)
        self.left_out = len(counts) - len(enough)
        order = enough if is_world(data) else np.random.default_rng(seed).permutation(enough)
        self._chosen = self._choose(order.tolist(), count, _filter(only))
        if len(self._chosen) < (count or 1):
            there = f"'{data}' has {len(self._chosen)} such sets of {needed} images or more"
            raise UserError(f"{there}; {count or 1} are asked for")
        self.fewest_real = int(counts[self._chosen].min()) - given
        self._kept: OrderedDict[int, EvaluationSet] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        """How many sets."""
        return len(self._chosen)

    def __getitem__(self, index: int) -> EvaluationSet:
        """Set number `index`. Raises UserError (ShardError) where it is damaged."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no set {index} among {len(self)}")
        if index not in self._kept:
            self._keep(index, self._read(index))
        self._kept.move_to_end(index)
        return self._kept[index]

    def __iter__(self) -> Iterator[EvaluationSet]:
        return (self[index] for index in range(len(self)))

    def key(self, index: int) -> str:
        """The key of set number `index`, without its pictures."""
        return self._words[self._chosen[index]].key

    @cached_property
    def captions(self) -> list[str]:
        """The captions of all sets, without their pictures."""
        return [self._words[chosen].caption for chosen in self._chosen]

    @property
    def picture_size(self) -> int:
        """Pixels of a side, of the first set where no size was asked for."""
        return self.size or self[0].given.shape[-2]

    @property
    def identity(self) -> dict[str, Any]:
        """What the given images follow from: digests of the data and of the choice, and numbers; plain values."""
        chosen = _digest(self._chosen)
        plain = {"data": self._content, "sets": len(self), "chosen": chosen, "given": self.given, "size": self.size}
        return plain | ({"task": self.task.task.name} if self.task else {})

    def _choose(self, order: list[int], count: int | None, keeps: CaptionFilter | None) -> list[int]:
        """The first `count` of the order whose caption is kept, ascending: then they are read shard by shard."""
        found = (index for index in order if keeps is None or keeps(self._words[index].caption))
        return sorted(islice(found, count))

    def _read(self, index: int) -> EvaluationSet:
        own = self._data[self._chosen[index]]
        images = torch.from_numpy(own.images)
        closest = closest_pair(compared_pixels(images)) if len(images) > 1 else None
        stored = None if own.conditions is None else torch.from_numpy(own.conditions)
        given, real = images[: self.given], images[self.given :]
        found = EvaluationSet(own.key, own.caption, given, real, closest, own.numbers, stored)
        return self.task.arranged(found) if self.task else found

    def _keep(self, index: int, own: EvaluationSet) -> None:
        self._kept[index] = own
        self._kept_bytes += _bytes(own)
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _bytes(self._kept.popitem(last=False)[1])


def one_object(caption: str) -> bool:
    """Whether a caption of the tiny world asks for exactly one object. UserError: it is no such caption."""
    return Caption.parse(caption).count == 1


CAPTION_FILTERS: dict[str, CaptionFilter] = {"one-object": one_object}


def compared_pixels(pictures: Tensor, size: int | None = None) -> Tensor:
    """uint8 [N, H, W, 3] -> pixels [N, 3, S, S] in [-1, 1], S at most COMPARED; size: S, where it is fixed already."""
    side = size or min(COMPARED, *pictures.shape[-3:-1])
    return pixels_from_images([Image.fromarray(picture) for picture in pictures.numpy()], side)


def _filter(only: str | CaptionFilter | None) -> CaptionFilter | None:
    if not isinstance(only, str):
        return only
    if only not in CAPTION_FILTERS:
        raise UserError(f"only is '{only}'; there is {', '.join(CAPTION_FILTERS)}")
    return CAPTION_FILTERS[only]


def _survey(
    data: Data, settings: list[dict[str, Any]], images: int, cache_dir: Address | None
) -> tuple[NDArray[np.int64], str]:
    """How many of its first images each set has, and a digest of the data: of its content, wherever it lies."""
    if not is_world(data):
        return _survey_shards(data, images, cache_dir)
    spec = WorldSpec.parse(str(data))
    painted_by = [spec.name, spec.split, spec.seed, settings[0]["generator"]]
    return np.full(spec.count, images, dtype=np.int64), _digest(painted_by)


def _survey_shards(data: Data, images: int, cache_dir: Address | None) -> tuple[NDArray[np.int64], str]:
    """By the headers of the shards alone."""
    cache = None if cache_dir is None else ShardCache(cache_dir)
    groups = groups_of([ShardFolder(address, cache) for address in find_folders(data)])
    counts = [np.empty(0, dtype=np.int64)]
    for group in groups:
        opened = OpenGroup(group, (0, images))
        counts.append(opened.image_counts())
        opened.close()
    return np.concatenate(counts), _digest([[entry.name, entry.sha256] for group in groups for entry in group.slices])


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _bytes(own: EvaluationSet) -> int:
    return own.given.numel() + own.real.numel()
