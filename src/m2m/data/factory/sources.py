"""Where image sets come from: the protocol of a source, and the paper's one, captions and a generator (section 4).

A source is a numbered row of sets. It says cheaply what each set is (`sets`) and makes any image of any set alone
(`make`), the same pixels whatever else is made in the same call; everything else of the factory rests on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from m2m.data.generators.protocol import Generator, Picture, image_seed
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.captions.store import CaptionStore


@dataclass(frozen=True)
class SetPlan:
    """One set before it is made.

    key: its name in the shard ([0-9A-Za-z_-]+, unique in the source); images: how many the whole set has;
    meta: what goes into its KEY.json, plain JSON values that do not depend on the machine.
    """

    key: str
    images: int
    meta: dict[str, Any] = field(default_factory=dict)


class SetSource(Protocol):
    """Sets 0 .. len - 1, in an order that never changes.

    batch: how many images `make` likes to be asked for at once. It also is the unit in which a shard is committed.
    """

    @property
    def batch(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """Everything that shapes the sets, as JSON values: no path, no device, nothing of this machine."""
        ...

    def __len__(self) -> int: ...

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        """The sets start .. stop - 1."""
        ...

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        """Image `number` of each set asked for, uint8 [H, W, 3]; None: it was made and rejected, and is left out."""
        ...


class GeneratedSets:
    """Section 4 of the paper: several images per caption, each from its own noise.

    store: captions with ids; split: which of them; sets: only the first so many, None: all. images_per_set: 25 in the
    paper. The seed of an image follows from (seed, caption id, number of the image) and nothing else.
    Raises UserError where the split holds fewer captions than are wanted, or no image is.
    """

    def __init__(
        self,
        store: CaptionStore,
        split: str,
        generator: Generator,
        images_per_set: int = 25,
        seed: int = 0,
        sets: int | None = None,
    ) -> None:
        self._store = store
        self._split = split
        self._generator = generator
        self._images = images_per_set
        self._seed = seed
        self._sets = wanted_sets(store, split, images_per_set, sets)

    @property
    def batch(self) -> int:
        return self._generator.batch

    def settings(self) -> dict[str, Any]:
        return {
            "source": "captions",
            "captions": self._store.digest(self._split),
            "split": self._split,
            "images_per_set": self._images,
            "seed": self._seed,
            "generator": self._generator.settings(),
        }

    def __len__(self) -> int:
        return self._sets

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        generator = self._generator.settings()
        plans = []
        for row in self._store.rows(self._split, start, stop):
            seeds = [image_seed(row.id, number, self._seed) for number in range(self._images)]
            meta = {"caption": row.caption, "tokens": row.tokens, "seeds": seeds, "generator": generator}
            plans.append(SetPlan(row.id, self._images, meta))
        return plans

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        captions = [plan.meta["caption"] for plan, _ in requests]
        seeds = [plan.meta["seeds"][number] for plan, number in requests]
        return self._generator.generate(captions, seeds)


def wanted_sets(store: CaptionStore, split: str, images_per_set: int, sets: int | None) -> int:
    """How many sets there are to make: `sets`, or all of the split. Raises UserError as `GeneratedSets` does."""
    there = store.count(split)
    wanted = there if sets is None else sets
    if images_per_set < 1 or wanted < 1:
        raise UserError(
            f"{images_per_set} images of {wanted} sets are nothing to make (split '{split}' of the captions)"
        )
    if wanted > there:
        raise UserError(f"split '{split}' of the captions holds {there}, fewer than the {wanted} sets wanted")
    return wanted
