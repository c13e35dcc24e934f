"""Contact sheets of image sets: a block for each set, its pictures in rows, its caption below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from m2m.data.grids import INK, PAPER, RULE, image_grid

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

GAP = 4
MARGIN = 16
# A set of 25 stands in two rows: wider sheets are shrunk by most viewers until nothing is to be seen.
MAX_PER_ROW = 13
# A narrower caption (a set of one picture) would break after every word.
MIN_WIDTH = 480
MAX_LINES = 12
CAPTION_SIZE, NOTE_SIZE = 17, 13
PALE = (130, 130, 130)


@dataclass(frozen=True)
class Block:
    """One set on a sheet: its pictures (None: one that is not there), its caption, and a small note below it."""

    pictures: Sequence[Image.Image | None]
    caption: str
    note: str = ""


def contact_sheet(blocks: Sequence[Block], cell: int = 128) -> Image.Image:
    """One RGB picture with all blocks, one below the other, a line between two; `cell`: pixels of a picture's side.

    Raises ValueError without blocks.
    """
    if not blocks:
        raise ValueError("a sheet needs at least one set")
    grids = [_grid(block.pictures, cell) for block in blocks]
    width = max(MIN_WIDTH, *(grid.width for grid in grids))
    texts = [_text(block, width - 2 * GAP) for block in blocks]
    heights = [grid.height + text.height + 2 * MARGIN for grid, text in zip(grids, texts, strict=True)]
    sheet = Image.new("RGB", (width + 2 * MARGIN, sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for number, (grid, text, height) in enumerate(zip(grids, texts, heights, strict=True)):
        if number > 0:
            draw.line([(MARGIN, top), (width + MARGIN, top)], fill=RULE)
        sheet.paste(grid, (MARGIN, top + MARGIN))
        sheet.paste(text, (MARGIN + GAP, top + MARGIN + grid.height))
        top += height
    return sheet


def wrapped(text: str, width: float, font: Font) -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces, or inside of a word that is wider than a line."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *whole, line = _pieces(word, width, font)
        lines += whole
    return [*lines, line] if line else lines


def _pieces(word: str, width: float, font: Font) -> list[str]:
    """A word cut into pieces that fit; one piece for a word that does."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _grid(pictures: Sequence[Image.Image | None], cell: int) -> Image.Image:
    """The pictures in rows of equal length; one blank cell for a set of which no picture is there."""
    if not any(pictures):
        return Image.new("RGB", (cell, cell), PAPER)
    count = -(-len(pictures) // MAX_PER_ROW)
    per_row = -(-len(pictures) // count)
    framed = [picture and _framed(picture, cell) for picture in pictures]
    rows = [framed[row * per_row : (row + 1) * per_row] for row in range(count)]
    return image_grid(rows, cell=cell, gap=GAP)


def _framed(picture: Image.Image, cell: int) -> Image.Image:
    """The picture with its longer side `cell`, a hairline about it: many have a white ground, as the sheet has."""
    return ImageOps.expand(ImageOps.contain(picture, (cell - 2, cell - 2), Image.Resampling.LANCZOS), 1, RULE)


def _text(block: Block, width: int) -> Image.Image:
    """Caption and note as a picture `width` pixels wide."""
    caption_font, note_font = _font(CAPTION_SIZE), _font(NOTE_SIZE)
    printable = "".join(letter if letter.isprintable() else " " for letter in block.caption)
    lines = [(line, caption_font, INK) for line in _shortened(wrapped(printable, width, caption_font))]
    lines += [(line, note_font, PALE) for line in wrapped(block.note, width, note_font)]
    tops = [GAP]
    for _, font, _ in lines:
        tops.append(tops[-1] + _line_height(font))
    picture = Image.new("RGB", (width, tops[-1]), PAPER)
    draw = ImageDraw.Draw(picture)
    for top, (line, font, colour) in zip(tops, lines, strict=False):
        draw.text((0, top), line, fill=colour, font=font)
    return picture


def _shortened(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1] + " ..."]


def _line_height(font: Font) -> int:
    return round(font.getbbox("Ag")[3] * 1.35)


@cache
def _font(size: int) -> Font:
    """DejaVu Sans, which comes with matplotlib and draws Greek and Cyrillic too; without it Pillow's own font."""
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        return ImageFont.load_default(size=size)
    path = Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size=size)
