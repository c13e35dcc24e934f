"""The folder that `m2m generate` leaves: 000.png, 001.png, ..., grid.png and generation.json, whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.checkpoint import atomic_folder
from m2m.data.grids import given_and_generated
from m2m.data.pictures import to_square
from m2m.types import UserError

RECORD = "generation.json"
GRID = "grid.png"
OWN_FILES = re.compile(r"\d{3,}\.png|grid\.png|generation\.json")
# Pixels of a cell of the sheet: 64-pixel pictures are enlarged to it, larger ones stay as they are.
GRID_CELL = 128


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
    out: Path, given: Sequence[Image.Image], generated: Sequence[Image.Image], record: dict[str, Any]
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
            (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be written: {error.strerror or error}") from error
