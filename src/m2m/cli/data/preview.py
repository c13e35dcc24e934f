"""`m2m data preview`: contact sheets of a folder of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter
from m2m.types import UserError


def data_preview(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")],
    out: Annotated[Path, typer.Option(help="PNG file; further sheets are named NAME-2.png, NAME-3.png, ...")] = Path(
        "preview.png"
    ),
    sets: Annotated[int, typer.Option(min=1, help="How many sets, drawn at random.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sets.")] = 0,
    keys: Annotated[str | None, typer.Option(help="These sets instead: their keys, with commas between.")] = None,
    per_sheet: Annotated[int, typer.Option(min=1, help="Sets on a sheet.")] = 8,
    cell: Annotated[int, typer.Option(min=16, max=1024, help="Pixels of a picture's side on the sheet.")] = 128,
) -> None:
    """Draw sets of pictures on contact sheets, each set with its caption below it.

    Example:
      m2m data preview data/mis --sets 20 --out mis.png

    Example:
      m2m data preview data/mis --keys 04dcf0a1f2b79e3511ab20c5 --cell 256
    """
    from m2m.data.reports.preview import preview

    if out.suffix.lower() != ".png":
        raise UserError(f"--out '{out}' must end in .png")
    chosen = [key for key in (keys or "").split(",") if key]
    with counter("sets") as progress:
        sheets = preview(folder, sets, seed, chosen, per_sheet, cell, progress)
        written = [_write(sheet, _place(out, number)) for number, sheet in enumerate(sheets, 1)]
    print("\n".join(str(path) for path in written))


def _place(out: Path, number: int) -> Path:
    """The file of sheet `number`, from 1."""
    return out if number == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")


def _write(sheet: object, path: Path) -> Path:
    from PIL import Image

    from m2m.checkpoint import atomic_write

    assert isinstance(sheet, Image.Image)
    try:
        with atomic_write(path) as temporary:
            sheet.save(temporary, format="PNG")
    except OSError as error:
        raise UserError(f"--out '{path}' cannot be written: {error.strerror or error}") from error
    return path
