"""The folder that a command leaves which makes images, whole or not at all: 000.png, 001.png, ..., grid.png,
generation.json, and of views a turnaround.gif.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from m2m.checkpoint import atomic_folder
from m2m.data.animation import write_gif
from m2m.data.grids import given_and_generated
from m2m.data.pictures import to_square
from m2m.types import UserError

RECORD = "generation.json"
GRID = "grid.png"
TURNAROUND = "turnaround.gif"
OWN_FILES = re.compile(r"\d{3,}\.png|grid\.png|turnaround\.gif|generation\.json")
# Pixels of a cell of the sheet: 64-pixel pictures are enlarged to it, larger ones stay as they are.
GRID_CELL = 128
GIF_SIDE = 256


class Turnaround(NamedTuple):
    """An animation of the generated images: how long one round takes, and whether it begins with the given ones."""

    milliseconds: int
    with_given: bool


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a place that cannot be written, or must not be replaced: a file, a full folder, strange files in it.

    Asked before an hour of sampling, not after. `overwrite` lets a former result be replaced, and nothing else: the
    folder is removed as a whole. Raises UserError.
    """
    if not out.exists():
        _check_can_be_made(out.resolve())
        return
    if not out.is_dir():
        raise UserError(f"--out '{out}' is a file; name a new folder")
    content = sorted(path.name for path in out.iterdir())
    if content and not overwrite:
        raise UserError(f"--out '{out}' is not empty; name a new folder, or add --overwrite to replace a former result")
    strange = [name for name in content if not OWN_FILES.fullmatch(name)]
    if strange:
        raise UserError(f"--out '{out}' holds '{strange[0]}', which is no part of a former result; name a new folder")


def _check_can_be_made(out: Path) -> None:
    above = next(folder for folder in out.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError(f"--out '{out}' cannot be made: '{above}' is no folder that you may write to")


def write_result(
    out: Path,
    given: Sequence[Image.Image],
    generated: Sequence[Image.Image],
    record: dict[str, Any],
    turnaround: Turnaround | None = None,
) -> None:
    """Write the whole folder, or nothing. The sheet shows the given images as the model saw them: square, at its size.

    Raises UserError where the place cannot be written.
    """
    size = generated[0].width
    seen = [to_square(image, size) for image in given]
    sheet = given_and_generated(seen, generated, cell=max(GRID_CELL, size))
    try:
        # Resolved: a link named by the user is followed, not replaced by a folder.
        with atomic_folder(out.resolve()) as folder:
            for number, image in enumerate(generated):
                image.save(folder / f"{number:03d}.png")
            sheet.save(folder / GRID)
            if turnaround is not None:
                frames = [*seen, *generated] if turnaround.with_given else generated
                write_gif(frames, folder / TURNAROUND, turnaround.milliseconds // len(frames), side=GIF_SIDE)
            (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be written: {error.strerror or error}") from error
