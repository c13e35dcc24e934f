"""Naming captions of a world in one word, `world:NAME:SPLIT:COUNT[:SEED]`, wherever captions or sets are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from m2m.data.worlds.captions import Caption
from m2m.data.worlds.world import World
from m2m.types import UserError

WORLD = "world:"


@dataclass(frozen=True)
class WorldSpec:
    """The first `count` captions of a split of a world, drawn with a seed. As text: the spec, its seed written out."""

    name: str
    split: str
    count: int
    seed: int = 0

    @classmethod
    def parse(cls, spec: str) -> WorldSpec:
        """Read "world:mini:train:6000" or "world:mini:train:6000:1". Raises UserError for any other form."""
        words = spec.removeprefix(WORLD).split(":")
        numbers = words[2:]
        if len(words) not in (3, 4) or not all(word.isascii() and word.isdigit() for word in numbers):
            raise UserError(f"'{spec}': write world:NAME:SPLIT:COUNT or world:NAME:SPLIT:COUNT:SEED")
        return cls(words[0], words[1], *map(int, numbers))

    def __str__(self) -> str:
        return f"{WORLD}{self.name}:{self.split}:{self.count}:{self.seed}"

    def captions(self) -> list[Caption]:
        """Draw them, all at once, some 500 bytes of memory each. UserError: there is no such world or split."""
        return World.load(self.name).captions(self.split, self.count, self.seed)


def is_world(spec: object) -> bool:
    """Whether this names captions of a world, well written or not, and no file or folder."""
    return str(spec).startswith(WORLD)
