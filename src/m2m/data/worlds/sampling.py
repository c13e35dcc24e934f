"""Drawing captions of a split: which attributes a caption fixes, and to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2m.data.worlds.captions import Caption
from m2m.data.worlds.splits import is_withheld, split_of
from m2m.data.worlds.vocabulary import ARTIST_STYLES, UNSEEN_ARTIST, subjects

if TYPE_CHECKING:
    from m2m.data.worlds.world import World

FIXED = 0.5  # probability that a caption fixes the style, the count, the background
SUBJECT, CATEGORY = 0.5, 0.3  # probability that it names a subject, or else a category; in the rest "things"
PATIENCE = 50  # draws before a caption is taken to be one of the last of its split, and repeated


def draw_captions(world: World, split: str, count: int, generator: np.random.Generator) -> list[Caption]:
    """Draw `count` captions of a split, different ones as long as there are any."""
    seen: set[Caption] = set()
    drawn: list[Caption] = []
    for _ in range(count):
        caption = _draw(world, split, generator)
        for _ in range(PATIENCE):
            if caption not in seen:
                break
            caption = _draw(world, split, generator)
        seen.add(caption)
        drawn.append(caption)
    return drawn


def _draw(world: World, split: str, generator: np.random.Generator) -> Caption:
    """Propose captions until one belongs to the split and fixes something."""
    while True:
        caption = propose(world, split, generator)
        if caption.fixed and split_of(caption) == split:
            return caption


def propose(world: World, split: str, generator: np.random.Generator) -> Caption:
    """Draw a caption that is likely to belong to the split."""
    unseen, unseen_artist = split == "test", split == "unseen-artist"
    subject = _pick(world.pool(Caption(unseen=unseen)), generator)
    style = _propose_style(world, split, subject, generator)
    fix = {name: generator.random() < FIXED for name in ("style", "count", "background")}
    noun = generator.random()
    if split == "unseen-pair":
        fix["style"], noun = True, 0.0
    by_name = noun < SUBJECT
    return Caption(
        subject=subject if by_name else None,
        category=subjects()[subject].category if noun < SUBJECT + CATEGORY else None,
        style=style if fix["style"] else None,
        count=int(generator.integers(1, 5)) if fix["count"] else None,
        background=_pick(world.backgrounds, generator) if fix["background"] else None,
        unseen=unseen and not by_name,
        unseen_artist=unseen_artist and not (fix["style"] and style == UNSEEN_ARTIST),
    )


def _propose_style(world: World, split: str, subject: str, generator: np.random.Generator) -> str:
    """A style of the world that suits the split; where none does, any (the caption is then drawn again)."""
    suits = {
        "unseen-pair": lambda style: is_withheld(subject, style),
        "unseen-artist": lambda style: style == UNSEEN_ARTIST or style not in ARTIST_STYLES,
    }.get(split, lambda style: style != UNSEEN_ARTIST)
    return _pick([style for style in world.styles if suits(style)] or list(world.styles), generator)


def _pick(values: list[str] | tuple[str, ...], generator: np.random.Generator) -> str:
    return values[int(generator.integers(len(values)))]
