"""Long sequences, content and style apart, real pictures."""

from pathlib import Path

import pytest

from m2m.evaluation.protocols.content_style import first_of_each
from m2m.evaluation.protocols.known import PROTOCOLS, find_protocol
from m2m.types import UserError
from tests.evaluation.protocols.evaluation import evaluated


def test_drift_is_told_for_every_window(tmp_path: Path) -> None:
    """One table for two windows, or images of one window scored as the other's."""
    result = evaluated("long", tmp_path, sets=2, images=4, windows=("all", "anchor:2"))
    titles = [own.title for own in result.tables]
    assert titles == ["Drift of random, window all", "Drift of random, window anchor:2"]
    rows = {row.name: row for row in result.rows}
    measure = "style consistency (colour)"
    first, second = (rows[f"random, window {own}"].measure(measure) for own in ("all", "anchor:2"))
    assert first.values[0] == second.values[0], "the first image sees the given ones in both"
    assert first.values[-1] != second.values[-1]
    cells = {line[0]: line for line in result.tables[0].cells}
    assert cells[measure][1:4] == tuple(
        f"{value:.1f}" for value in (first.values[0], first.values[-1], first.values[0] - first.values[-1])
    )


def test_content_and_style_are_each_over_the_sets_that_fix_them(tmp_path: Path) -> None:
    """Over all sets, free subjects would count as lost content."""
    result = evaluated("content-style", tmp_path, sets=12, images=1)
    content, style = result.tables
    assert content.heads[1:] == ("subject (truth probe)", "category (truth probe)")
    assert style.heads[1:] == ("style consistency (colour)", "style (truth probe)")
    copies = {line[0]: line[1:] for line in content.cells}["copy of the last given"]
    assert float(copies[0]) > 80
    assert {own.title for own in result.pictures} == {"random: subject", "random: style"}


def test_sheets_take_each_subject_once() -> None:
    """A sheet of one subject in six rows shows one."""
    assert first_of_each(["cat", "", "dog", "cat", "owl"]) == [0, 2, 4]


def test_real_pictures_are_by_the_artist_never_trained_on(tmp_path: Path) -> None:
    """The test split's drawings are by artists that models know."""
    result = evaluated("real", tmp_path, sets=2, images=2)
    assert result.rows[0].name == "random" and "unseen-artist" in find_protocol("real").default_data(2)


def test_an_unknown_protocol_is_refused_by_name() -> None:
    """A KeyError tells nobody what there is."""
    with pytest.raises(UserError, match=", ".join(PROTOCOLS)):
        find_protocol("table2")
