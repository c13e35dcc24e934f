"""Markdown: tables that hold together whatever the names hold."""

from __future__ import annotations

import dataclasses
import re

from m2m.evaluation.report import layout
from m2m.evaluation.report.markdown import escaped, markdown, table
from tests.evaluation.report.samples import sample_result

NEITHER = re.compile(r"(?<!\\)\|")


def tables(text: str) -> list[list[str]]:
    """Blocks of lines that are a table."""
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    """Guards against a "|" in a caption that opens a further cell, and against cells that are missing."""
    found = tables(markdown(sample_result(), "curves.png"))
    assert len(found) == 4 + 4 + 14 + 1 + 2  # summaries, changes, measures by position, table, settings and versions
    for lines in found:
        assert len({len(NEITHER.findall(line)) for line in lines}) == 1
        assert re.fullmatch(r"(\| -+:? )+\|", lines[1])
        assert len(NEITHER.findall(lines[0])) - 1 <= 13


def test_nothing_of_the_data_is_taken_for_html_or_markdown() -> None:
    """Guards against a caption "<b>" that makes the rest bold, and one that breaks its line."""
    assert escaped("a <b> & *c*\n| d_e `f` [g](h)") == r"a \<b\> \& \*c\* \| d\_e \`f\` \[g\](h)"
    text = markdown(sample_result())
    assert r"tiny-dino \<b\>\&" in text and "tiny-dino <b>" not in text


def test_curves_are_shown_only_where_there_are_any() -> None:
    """Guards against a broken picture in a report of one position."""
    assert "![Measures by generated image](curves.png)" in markdown(sample_result(), "curves.png")
    assert "## Curves" not in markdown(sample_result(range(1, 2)), None)


def test_the_command_stands_as_it_was_typed() -> None:
    """Guards against a command that was escaped, or that ends its own block."""
    result = dataclasses.replace(sample_result(), command="m2m eval --data 'a|b' && echo ```x```")
    assert f"````\n{result.command}\n````" in markdown(result)


def test_the_best_number_is_bold_and_a_floor_is_called_one() -> None:
    """Guards against tables in which a floor passes for a model."""
    lines = table(layout.summary(sample_result(), ["KID (efficientnet-lite0)"])).splitlines()
    assert lines[3].startswith(r"| tiny-dino \<b\>\& | **") and "**" not in lines[2]
    assert any(line.startswith("| copy of the last given (floor) |") for line in lines)
