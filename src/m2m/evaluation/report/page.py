"""One HTML file that says it all: it loads nothing, runs no script, and is readable by someone who was not there."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.data.pictures import read_picture
from m2m.evaluation.report import layout, plots
from m2m.evaluation.report.elements import Html, element, joined
from m2m.evaluation.report.glossary import DIRECTIONS, explained, extractor_explained, shown_name
from m2m.evaluation.report.layout import Cell, Line, Sheet
from m2m.evaluation.report.stylesheet import CSS
from m2m.evaluation.result import Picture, Result, Row

# A picture of more bytes goes into the page as WebP, at most this large: a sheet of photographs has tens of megabytes.
LARGEST_PNG = 300_000
LARGEST_SIDES = (1600, 12_000)  # pixels
NARROWEST = 720  # pixels that a sheet keeps on a phone, where it scrolls
ROLES = {
    "model": "what is evaluated",
    "ceiling": "what no model can be expected to pass",
    "floor": "what asks for no skill: a model must be clearly better",
}
# The page asks for nothing, wherever it is opened.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_page(result: Result, folder: str | Path) -> str:
    """The page of a result whose pictures lie in `folder`. Raises UserError where one of them is missing or broken."""
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="Content-Security-Policy", content=POLICY),
            element("title", result.title),
            element("style", Html(CSS)),
        ]
    )
    body = element("main", *_sections(result, Path(folder)))
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def _sections(result: Result, folder: Path) -> list[Html]:
    parts = {
        "compared": ("What is compared", _compared(result.rows)),
        "numbers": ("Numbers", joined(_extractor(result, *own) for own in layout.by_extractor(result).items())),
        "tables": ("Tables", joined(_titled_table(layout.plain_sheet(own)) for own in result.tables)),
        "pictures": ("Pictures", joined(_figure(own, folder) for own in result.pictures)),
        "notes": ("Notes", element("ul", *(element("li", note) for note in result.notes)) if result.notes else ""),
        "made": ("How it was made", _made(result)),
    }
    there = {name: own for name, own in parts.items() if own[1]}
    links = [element("a", title, href=f"#{name}") for name, (title, _) in there.items()]
    sections = [element("section", element("h2", title), content, id=name) for name, (title, content) in there.items()]
    return [_opening(result), element("nav", *links), *sections]


def _opening(result: Result) -> Html:
    kicker = element("p", f"Evaluation · protocol {result.protocol}", class_="quiet")
    return element("header", kicker, element("h1", result.title), element("p", result.reading, class_="lead"))


def _compared(rows: Sequence[Row]) -> Html:
    """Every row with its line's look, its role and its note, and how to read the numbers."""
    drawn = plots.strokes(rows)
    lines = [
        element(
            "tr",
            element("th", _swatch(drawn[row.name]), row.name, _role(row.role), scope="row"),
            element("td", row.note or ROLES[row.role]),
            class_=row.role,
        )
        for row in layout.in_order(rows)
    ]
    roles = [element("li", element("b", name), f": {meaning}.") for name, meaning in ROLES.items()]
    reading = (
        "Arrows in the heads of the tables point to what is better (↓ lower, ↑ higher); a measure without an arrow is "
        "good in neither direction. Each table holds the measures of one extractor, the network that reads the "
        "pictures; numbers of different extractors cannot be compared. The deviation behind ± is over the positions, "
        "as in the paper's Table 1: how much a measure changes along a set, not how sure it is. How sure, the 95% "
        "intervals say, by bootstrap over the sets: in parentheses in the tables, as bands in the plots."
    )
    table = element("div", element("table", element("tbody", *lines), class_="words"), class_="scroll")
    return joined([table, element("ul", *roles), element("p", reading)])


def _extractor(result: Result, extractor: str, labels: Sequence[str]) -> Html:
    """Everything of one extractor: table, what its measures mean, curves, numbers by position."""
    parts: list[str] = [element("h3", extractor)]
    if line := extractor_explained(extractor):
        parts.append(element("p", line, class_="quiet"))
    parts += [_titled_table(layout.summary(result, labels)), _meanings(result, labels)]
    if len(result.positions) > 1:
        parts += [_panels(result, labels), _by_position(result, labels)]
    return joined(parts)


def _meanings(result: Result, labels: Sequence[str]) -> Html:
    """A line for every measure that has one."""
    entries = []
    for own in (layout.any_of(result, label) for label in labels):
        line = f"{explained(own.name)} {DIRECTIONS[own.better].capitalize()}.".strip()
        entries += [element("dt", shown_name(own.name, own.extractor)), element("dd", line)]
    return element("details", element("summary", "What the measures mean"), element("dl", *entries), open="")


def _panels(result: Result, labels: Sequence[str]) -> Html:
    images = [
        element("img", src=_data_uri(plots.panel(result, label), "png"), alt=f"{label} by {result.axis}")
        for label in labels
    ]
    return joined([_legend(result.rows), element("div", *images, class_="panels")])


def _by_position(result: Result, labels: Sequence[str]) -> Html:
    tables = [_titled_table(layout.by_position(result, label)) for label in labels]
    change = _titled_table(layout.change(result, labels))
    return element("details", element("summary", "Change and numbers by position"), change, *tables)


def _legend(rows: Sequence[Row]) -> Html:
    drawn = plots.strokes(rows)
    entries = [element("li", _swatch(drawn[row.name]), row.name) for row in layout.in_order(rows)]
    return element("ul", *entries, class_="legend")


def _swatch(stroke: plots.Stroke) -> Html:
    """A piece of the line as the plots draw it."""
    dash = " ".join(f"{length * stroke.width:g}" for length in stroke.dash)
    line = element(
        "line",
        x1=0,
        y1=6,
        x2=40,
        y2=6,
        stroke=stroke.colour,
        stroke_width=f"{stroke.width:g}",
        stroke_dasharray=dash or None,
    )
    return element("svg", line, width=40, height=12, aria_hidden="true")


def _role(role: str | None) -> str:
    return element("span", role, class_="role") if role in ("floor", "ceiling") else ""


def _titled_table(sheet: Sheet) -> Html:
    return joined([element("h4", sheet.title), _table(sheet)])


def _table(sheet: Sheet) -> Html:
    """The table in a box that scrolls, its notes below it."""
    kinds = [None, *("text" if own else None for own in layout.is_text(sheet))]
    heads = [element("th", text, scope="col", class_=kind) for text, kind in zip(sheet.heads, kinds, strict=True)]
    lines = [_line(own, kinds[1:]) for own in sheet.lines]
    head, body = element("thead", element("tr", *heads)), element("tbody", *lines)
    notes = [element("p", note, class_="quiet") for note in sheet.notes]
    return joined([element("div", element("table", head, body), class_="scroll"), *notes])


def _line(line: Line, kinds: Sequence[str | None]) -> Html:
    name = element("th", line.name, _role(line.role), scope="row")
    cells = [_cell(own, kind) for own, kind in zip(line.cells, kinds, strict=True)]
    return element("tr", name, *cells, class_=line.role)


def _cell(cell: Cell, kind: str | None) -> Html:
    text = element("b", cell.text) if cell.best else cell.text
    return element("td", text, element("small", cell.small) if cell.small else "", class_=kind)


def _figure(picture: Picture, folder: Path) -> Html:
    path = folder / picture.file
    image = read_picture(path)
    caption = element("figcaption", element("b", picture.title), f" {picture.note} ", element("small", picture.file))
    width = min(image.width, NARROWEST)
    shown = element("img", src=_inlined(path, image), alt=picture.title, style=f"min-width: {width}px")
    return element("figure", caption, element("div", shown, class_="scroll"))


def _inlined(path: Path, image: Image.Image) -> str:
    """The picture as a data: URI; as WebP, which shrinks sheets tenfold, where the file is large."""
    content = path.read_bytes()
    if path.suffix.lower() == ".png" and len(content) <= LARGEST_PNG:
        return _data_uri(content, "png")
    image.thumbnail(LARGEST_SIDES)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=88)
    return _data_uri(stream.getvalue(), "webp")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _made(result: Result) -> Html:
    command = element("pre", element("code", result.command))
    return joined(
        [
            element("h4", "Command"),
            command,
            element("h4", "Settings"),
            _pairs(result.settings),
            element("h4", "Versions"),
            _pairs(result.versions),
        ]
    )


def _pairs(values: Mapping[str, Any]) -> Html:
    lines = [
        element("tr", element("th", name, scope="row"), element("td", layout.plain(value)))
        for name, value in values.items()
    ]
    return element("div", element("table", element("tbody", *lines), class_="words"), class_="scroll")
