"""Contact sheets of evaluated sets: a row a set, its given, generated and real images side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from m2m.data.grids import image_grid

if TYPE_CHECKING:
    from m2m.evaluation.sets import EvaluationSet

# A longer caption would be wider than the images that it stands beside.
CAPTION = 64


def given_generated_real(
    sets: Sequence[EvaluationSet], generated: Sequence[Tensor], cell: int | None = None
) -> Image.Image:
    """One RGB sheet: given | generated | real images, the caption, cut at 64 letters, at the left of its row.

    Args:
        sets: the rows. Where a set has fewer images than another, cells stay blank; no column group without an image.
        generated: for each set uint8 [N, H, W, 3].
        cell: pixels of a picture's side; default: that of the largest.

    Raises ValueError without sets, or where there are not as many `generated` as sets.
    """
    groups = {
        "given": [_pictures(own.given) for own in sets],
        "generated": [_pictures(own) for own in generated],
        "real": [_pictures(own.real) for own in sets],
    }
    if len(groups["generated"]) != len(sets):
        raise ValueError(f"generated images of {len(groups['generated'])} sets for {len(sets)} sets")
    widths = {name: max((len(own) for own in rows), default=0) for name, rows in groups.items()}
    columns = [(name, width) for name, width in widths.items() if width]
    rows = [
        [image for name, _ in columns for image in _filled(groups[name][s], widths[name])] for s in range(len(sets))
    ]
    labels = [_label(own.caption) for own in sets]
    return image_grid(rows, columns, labels if any(labels) else (), cell)


def _pictures(images: Tensor) -> list[Image.Image]:
    """uint8 [N, H, W, 3] -> N pictures."""
    return [Image.fromarray(own.numpy()) for own in images.cpu()]


def _filled(images: Sequence[Image.Image], width: int) -> list[Image.Image | None]:
    return [*images, *[None] * (width - len(images))]


def _label(caption: str) -> str:
    """One printable line."""
    printable = "".join(letter if letter.isprintable() else " " for letter in caption)
    return textwrap.shorten(printable, CAPTION, placeholder=" ...")
