"""The tables of a result as Markdown, for a README, a log or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m2m.evaluation.report import layout
from m2m.evaluation.report.glossary import DIRECTIONS, explained, extractor_explained, shown_name
from m2m.evaluation.report.layout import Cell, Line, Sheet
from m2m.evaluation.result import Result

# What Markdown, or HTML inside of it, would take for its own.
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")


def markdown(result: Result, curves: str | None = None) -> str:
    """The whole result; curves: the file of the plots, beside it."""
    blocks = [f"# {escaped(result.title)}", f"Protocol {escaped(result.protocol)}. {escaped(result.reading)}"]
    blocks += ["## What is compared", *_compared(result), *_numbers(result)]
    if curves is not None:
        blocks += ["## Curves", f"![Measures by {escaped(result.axis)}]({curves})", *_by_position(result)]
    if result.tables:
        blocks += ["## Tables", *(block for own in result.tables for block in _titled(layout.plain_sheet(own)))]
    if result.pictures:
        blocks += ["## Pictures", *_pictures(result)]
    if result.notes:
        blocks += ["## Notes", "\n".join(f"- {escaped(note)}" for note in result.notes)]
    return "\n\n".join([*blocks, *_made(result)]) + "\n"


def table(sheet: Sheet) -> str:
    """The table, its notes below it."""
    heads = [escaped(text) for text in sheet.heads]
    lines = [heads, ["---", *("---" if words else "---:" for words in layout.is_text(sheet))]]
    lines += [[_name(line), *(_cell(own) for own in line.cells)] for line in sheet.lines]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([rows, *(escaped(note) for note in sheet.notes)])


def escaped(text: str) -> str:
    """Text that stays what it is: on one line, nothing in it taken for Markdown or HTML."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _compared(result: Result) -> Iterator[str]:
    rows = layout.in_order(result.rows)
    yield "\n".join(f"- **{escaped(row.name)}** ({row.role}){_after(': ', row.note)}" for row in rows)
    yield (
        "A floor asks for no skill: a model must be clearly better. No model can be expected to pass a ceiling. Arrows "
        "point to what is better. Numbers of different extractors cannot be compared. The deviation behind ± is over "
        "the positions, as in the paper's Table 1: how much a measure changes along a set, not how sure it is."
    )


def _numbers(result: Result) -> Iterator[str]:
    yield "## Numbers"
    for extractor, labels in layout.by_extractor(result).items():
        yield f"### {escaped(extractor)}"
        if line := extractor_explained(extractor):
            yield escaped(line)
        yield from _titled(layout.summary(result, labels))
        yield "\n".join(_meaning(result, label) for label in labels)


def _meaning(result: Result, label: str) -> str:
    own = layout.any_of(result, label)
    line = f"{explained(own.name)} {DIRECTIONS[own.better].capitalize()}.".strip()
    return f"- {escaped(shown_name(own.name, own.extractor))}: {escaped(line)}"


def _by_position(result: Result) -> Iterator[str]:
    for extractor, labels in layout.by_extractor(result).items():
        yield f"### {escaped(extractor)}, by {escaped(result.axis)}"
        yield from _titled(layout.change(result, labels))
        for label in labels:
            yield from _titled(layout.by_position(result, label, bounds=False))


def _pictures(result: Result) -> Iterator[str]:
    for own in result.pictures:
        yield f"**{escaped(own.title)}**{_after(': ', own.note)}"
        yield f"![{escaped(own.title)}](<{own.file}>)"


def _made(result: Result) -> list[str]:
    longest = max((len(run) for run in re.findall("`+", result.command)), default=0)
    fence = "`" * max(3, longest + 1)
    command = f"{fence}\n{result.command}\n{fence}"
    settings, versions = _pairs("setting", result.settings), _pairs("version of", result.versions)
    return ["## How it was made", command, settings, versions]


def _pairs(head: str, values: Mapping[str, Any]) -> str:
    lines: Sequence[Line] = [Line(name, (Cell(layout.plain(value)),)) for name, value in values.items()]
    return table(Sheet("", (head, ""), tuple(lines)))


def _titled(sheet: Sheet) -> tuple[str, str]:
    return f"**{escaped(sheet.title)}**", table(sheet)


def _name(line: Line) -> str:
    role = f" ({line.role})" if line.role in ("floor", "ceiling") else ""
    return escaped(line.name) + role


def _cell(cell: Cell) -> str:
    text = f"**{escaped(cell.text)}**" if cell.best else escaped(cell.text)
    return text + _after(" ", cell.small)


def _after(mark: str, text: str) -> str:
    return mark + escaped(text) if text else ""
