"""Contact sheets: rows of pictures under named column groups, for results, the trainer's samples and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Row = Sequence[Image.Image | None]
PAPER = "white"
INK = (64, 64, 64)
RULE = (190, 190, 190)


def image_grid(
    rows: Sequence[Row],
    columns: Sequence[tuple[str, int]] = (),
    row_labels: Sequence[str] = (),
    cell: int | None = None,
    gap: int = 4,
) -> Image.Image:
    """One RGB picture with all of `rows`.

    Args:
        rows: pictures of any size; None, or a row that ends early, leaves a blank cell.
        columns: groups of columns from the left, (name, how many); names stand above, a thin line between two groups.
        row_labels: one for each row, at its left.
        cell: side of a cell in pixels, to which every picture is resized; default: the largest side of all pictures.
        gap: pixels between two cells.

    Raises ValueError if there is no picture, or if columns or labels do not fit the rows.
    """
    images = [image for row in rows for image in row if image is not None]
    if not images:
        raise ValueError("a grid needs at least one picture")
    side = cell or max(max(image.size) for image in images)
    width = max(len(row) for row in rows)
    _check_fit(rows, columns, row_labels, width)
    font = ImageFont.load_default(size=_text_size(side))
    left = _labels_width(row_labels, font, gap)
    top = _line_height(font) + gap if columns else gap
    lefts, rules, right = _column_places(left, width, columns, side, gap)

    sheet = Image.new("RGB", (right, top + len(rows) * (side + gap)), PAPER)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            if image is not None:
                sheet.paste(_fitted(image, side), (lefts[x], top + y * (side + gap)))
    _draw_heads(sheet, columns, lefts, rules, font)
    _draw_row_labels(sheet, row_labels, top, side, gap, font)
    return sheet


def given_and_generated(
    given: Sequence[Image.Image], generated: Sequence[Image.Image], per_row: int = 4, cell: int | None = None
) -> Image.Image:
    """The sheet of one set: given images left, generated ones right, each at most `per_row` wide, in reading order."""
    left, right = min(per_row, len(given)), min(per_row, len(generated))
    count = max(_rows_needed(len(given), left), _rows_needed(len(generated), right))
    rows = [_chunk(given, row, left) + _chunk(generated, row, right) for row in range(count)]
    columns = [(name, width) for name, width in (("given", left), ("generated", right)) if width]
    return image_grid(rows, columns=columns, cell=cell)


def _rows_needed(count: int, per_row: int) -> int:
    return -(-count // per_row) if per_row else 0


def _chunk(images: Sequence[Image.Image], row: int, per_row: int) -> list[Image.Image | None]:
    """Images of one row of a block, filled up with blanks."""
    chunk: list[Image.Image | None] = list(images[row * per_row : (row + 1) * per_row])
    return chunk + [None] * (per_row - len(chunk))


def _check_fit(rows: Sequence[Row], columns: Sequence[tuple[str, int]], row_labels: Sequence[str], width: int) -> None:
    if columns and sum(count for _, count in columns) != width:
        raise ValueError(f"columns name {sum(count for _, count in columns)} columns, the widest row has {width}")
    if row_labels and len(row_labels) != len(rows):
        raise ValueError(f"{len(row_labels)} row labels for {len(rows)} rows")


def _column_places(
    left: int, width: int, columns: Sequence[tuple[str, int]], side: int, gap: int
) -> tuple[list[int], list[int], int]:
    """Left edge of every column, x of the line before every group but the first, and the sheet's width."""
    first_of_group = set()
    column = 0
    for _, count in columns[:-1]:
        column += count
        first_of_group.add(column)
    lefts, rules, x = [], [], left + gap
    for column in range(width):
        if column in first_of_group:
            rules.append(x + gap)
            x += 3 * gap
        lefts.append(x)
        x += side + gap
    return lefts, rules, x


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """The whole picture, its longer side `side`, in the middle of a blank cell."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    blank = Image.new("RGB", (side, side), PAPER)
    blank.paste(image.convert("RGB"), ((side - size[0]) // 2, (side - size[1]) // 2))
    return blank


def _draw_heads(
    sheet: Image.Image,
    columns: Sequence[tuple[str, int]],
    lefts: Sequence[int],
    rules: Sequence[int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    draw = ImageDraw.Draw(sheet)
    column = 0
    for name, count in columns:
        draw.text((lefts[column], _line_height(font) // 6), name, fill=INK, font=font)
        column += count
    for x in rules:
        draw.line([(x, 0), (x, sheet.height)], fill=RULE)


def _draw_row_labels(
    sheet: Image.Image,
    labels: Sequence[str],
    top: int,
    side: int,
    gap: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        middle = top + row * (side + gap) + side // 2
        draw.text((gap, middle - _line_height(font) // 2), label, fill=INK, font=font)


def _text_size(side: int) -> int:
    return min(24, max(10, side // 8))


def _line_height(font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> int:
    return round(font.getbbox("Ag")[3] * 1.3)


def _labels_width(labels: Sequence[str], font: ImageFont.ImageFont | ImageFont.FreeTypeFont, gap: int) -> int:
    """Room for the widest label, a gap at its left and two at its right; 0 without labels."""
    return max((round(font.getlength(label)) + 3 * gap for label in labels), default=0)
