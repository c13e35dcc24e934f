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
    "four pairs of jeans on plain sky blue",  # the style is free
    "croissants, sketch style",  # count and background are free; the subject was never trained on
    "foxes on plain night blue",  # count and style are free; the subject was never trained on
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
