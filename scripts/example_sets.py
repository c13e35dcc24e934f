"""Writes examples/sets: four given pictures for each of a few captions, rendered by the tiny world.

    python scripts/example_sets.py

The captions are validation or test captions: the shipped models were not trained on any of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from m2m.data.worlds import World

OUT = Path(__file__).parents[1] / "examples" / "sets"
CAPTIONS = (
    "two locomotives on yellow dots",  # a subject and a background; its style is free. Never seen: the subject
    "four things on green stripes, pixel art style",  # only count, background and style stay; the subject changes
    "a fox, watercolour style",  # the background is free. Never seen: the subject
)
GIVEN = 4


def main() -> None:
    world = World.load("mini")
    for caption in CAPTIONS:
        folder = OUT / re.sub(r"[^a-z0-9]+", "-", caption)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(GIVEN):
            Image.fromarray(world.render(caption, seed)).save(folder / f"{seed}.png", optimize=True)
        print(folder)


if __name__ == "__main__":
    main()
