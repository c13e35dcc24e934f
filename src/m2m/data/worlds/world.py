"""Worlds: a choice of subjects, styles, artists and backgrounds, with captions, scenes and pictures.

`full` has everything; `mini` is small enough to be learnt on two CPU cores. Both run through the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from m2m.data.worlds import renderer, sampling
from m2m.data.worlds.backgrounds import BACKGROUNDS
from m2m.data.worlds.captions import Caption
from m2m.data.worlds.scene import Scene, draw_light, place
from m2m.data.worlds.splits import MINI_SUBJECTS, SPLITS, is_held_out, is_withheld
from m2m.data.worlds.vocabulary import (
    ARTIST_STYLES,
    FILTER_STYLES,
    NUMBERS,
    STYLES,
    UNSEEN_ARTIST,
    categories,
    subjects,
)
from m2m.types import UserError

ATTRIBUTES = ("subject", "category", "style", "count", "background")
MINI_BACKGROUNDS = (
    "plain white",
    "plain night blue",
    "plain sky blue",
    "plain yellow",
    "blue grid",
    "yellow dots",
    "green stripes",
    "red checks",
)
SMALLEST, LARGEST = 16, 512  # pixels of a rendered picture


@dataclass(frozen=True)
class World:
    """One tiny world. Get it with `World.load("mini")` or `World.load("full")`.

    Attributes:
        name: "mini" or "full".
        subjects: names of its subjects, those never trained on included.
        styles: its styles. In `full` the unseen artist's own style is among them.
        artists: styles whose drawings may be trained on; a filter style draws one of these by the seed.
        backgrounds: its backgrounds.
        size: default width and height of a picture in pixels.
    """

    name: str
    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    artists: tuple[str, ...]
    backgrounds: tuple[str, ...]
    size: int = 64
    _pools: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, name: str) -> World:
        """Return a world by name. UserError: there is no such world."""
        if name == "full":
            artists = tuple(style for style in ARTIST_STYLES if style != UNSEEN_ARTIST)
            return cls(name, tuple(subjects()), STYLES, artists, tuple(BACKGROUNDS))
        if name == "mini":
            chosen = tuple(subject.rstrip("*") for row in MINI_SUBJECTS.values() for subject in row)
            return cls(name, chosen, ("flat", *FILTER_STYLES), ("flat",), MINI_BACKGROUNDS)
        raise UserError(f"there is no tiny world '{name}'; there are 'mini' and 'full'")

    @cached_property
    def attributes(self) -> dict[str, list]:
        """Each attribute's values in this world, in a fixed order. Do not change them."""
        present = {subjects()[name].category for name in self.subjects}
        return {
            "subject": list(self.subjects),
            "category": [name for name in categories() if name in present],
            "style": list(self.styles),
            "count": list(NUMBERS),
            "background": list(self.backgrounds),
        }

    def captions(self, split: str, count: int, seed: int) -> list[Caption]:
        """Draw captions of a split (see `splits`); each attribute is fixed in about half of them, at least one in all.

        Captions differ from each other as long as the split has enough of them; after that they repeat.

        Raises:
            UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError(f"there is no split '{split}' in the tiny world; there are {', '.join(SPLITS)}")
        return sampling.draw_captions(self, split, count, _generator("captions", self.name, split, seed))

    def scene(self, caption: Caption | str, seed: int) -> Scene:
        """Draw what a caption leaves free. The same caption and seed give the same scene, in every process.

        Free attributes are drawn from what may be trained on (see `splits`), whatever the caption's split.

        Raises:
            UserError: the caption is not in the language, or names what this world does not have.
        """
        caption = Caption.parse(caption) if isinstance(caption, str) else caption
        self.check(caption)
        generator = _generator("scene", caption.text, seed)
        subject = _pick(self.pool(caption), generator)
        style = caption.style or _pick(self._styles_of(subject, caption.unseen_artist), generator)
        artist = _pick(self._artists_of(style, caption.unseen_artist), generator)
        count = caption.count or int(generator.integers(1, len(NUMBERS) + 1))
        background = caption.background or _pick(self.backgrounds, generator)
        category = categories()[subjects()[subject].category]
        return Scene(
            subject=subject,
            category=category.name,
            style=style,
            count=count,
            background=background,
            family=ARTIST_STYLES[artist],
            objects=place(count, category.mirror, generator),
            light=draw_light(generator),
            texture=int(generator.integers(2**31)),
        )

    def render(self, caption: Caption | str, seed: int, size: int | None = None) -> np.ndarray:
        """Render the scene of a caption and a seed: uint8 [size, size, 3], by default 64 pixels.

        The scene does not depend on the size. Raises UserError as `scene` does, and for a size out of 16..512.
        """
        return self.render_scene(self.scene(caption, seed), size)

    def render_scene(self, scene: Scene, size: int | None = None) -> np.ndarray:
        """Render a scene that was drawn before: uint8 [size, size, 3]."""
        size = self.size if size is None else size
        if not SMALLEST <= size <= LARGEST:
            raise UserError(f"a picture of the tiny world is {SMALLEST} to {LARGEST} pixels wide, not {size}")
        return renderer.render(scene, subjects()[scene.subject].key, size)

    def sample_set(self, caption: Caption | str, seeds: Iterable[int], size: int | None = None) -> list[np.ndarray]:
        """Render one picture a seed: a set with a pattern (what the caption fixes) and a freedom."""
        return [self.render(caption, seed, size) for seed in seeds]

    def pool(self, caption: Caption) -> tuple[str, ...]:
        """The subjects that a scene of this caption can show.

        Raises:
            UserError: nothing is left, e.g. an "unseen" category all of whose subjects are trained on.
        """
        if caption.subject is not None:
            return (caption.subject,)
        key = (caption.category, caption.style, caption.unseen)
        if key not in self._pools:
            self._pools[key] = tuple(name for name in self.subjects if _may_show(name, *key))
        if not self._pools[key]:
            found = f"the tiny world '{self.name}' has nothing to show for '{caption.text}'"
            raise UserError(f"{found}; leave out the style or 'unseen', or name another category")
        return self._pools[key]

    def check(self, caption: Caption) -> None:
        """Raise UserError, with what there is instead, unless this world has all that the caption names."""
        for name, value in caption.fixed.items():
            values = self.attributes[name]
            if value not in values:
                there = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
                raise UserError(f"the tiny world '{self.name}' has no {name} '{value}'; it has {there}")

    def _styles_of(self, subject: str, unseen_artist: bool) -> list[str]:
        """Styles that may be drawn for a subject where the caption leaves the style free."""
        if unseen_artist:
            return [style for style in self.styles if style in (*FILTER_STYLES, UNSEEN_ARTIST)]
        return [style for style in self.styles if style != UNSEEN_ARTIST and not is_withheld(subject, style)]

    def _artists_of(self, style: str, unseen_artist: bool) -> tuple[str, ...]:
        if unseen_artist:
            return (UNSEEN_ARTIST,)
        return (style,) if style in ARTIST_STYLES else self.artists


def _may_show(subject: str, category: str | None, style: str | None, unseen: bool) -> bool:
    """Whether a caption that leaves the subject free may show this one."""
    if is_held_out(subject) != unseen or category not in (None, subjects()[subject].category):
        return False
    return style is None or not is_withheld(subject, style)


def _pick(values: list[str] | tuple[str, ...], generator: np.random.Generator) -> str:
    return values[int(generator.integers(len(values)))]


def _generator(*words: object) -> np.random.Generator:
    """A random generator that follows from words alone; Python's own hash() differs from process to process."""
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
