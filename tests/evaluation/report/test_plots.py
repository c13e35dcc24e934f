"""The curves: what is drawn, and what is kept off an axis that it would squeeze."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from m2m.evaluation.report.plots import curves, in_view, panel, strokes
from m2m.evaluation.result import Measure, Row
from tests.evaluation.report.samples import ALONE, COPY, DINO, KINDS, ROWS, SELF, sample_result


def test_every_row_has_a_look_of_its_own_that_does_not_depend_on_the_other_roles() -> None:
    """Guards against two floors drawn alike, and against models that look like floors."""
    floors = tuple(Row(f"floor {number}", "floor", ()) for number in range(12))
    drawn = strokes((*floors, Row("model", "model", ()), Row("other", "model", ())))
    assert len(set(drawn.values())) == 14
    assert drawn["model"] == strokes([Row("model", "model", ())])["model"]
    assert drawn["model"].dash == () and all(drawn[floor.name].dash for floor in floors)


def test_floors_far_off_do_not_squeeze_the_models() -> None:
    """Guards against panels in which all models are one flat line below an enormous floor."""
    rows = sample_result().rows
    near, far = in_view(rows, "FD (efficientnet-lite0)")
    assert [row.name for row in far] == [ALONE]
    assert {SELF, DINO, COPY} < {row.name for row in near}
    assert [row.name for row in in_view(rows, "near-copies (pixels)")[1]] == [COPY]
    assert in_view(rows, "subject (truth probe)")[1] == []  # 1% against 80% is the message, and fits


def test_rows_without_the_measure_and_results_of_floors_alone() -> None:
    """Guards against an axis of nothing, and models that would be drawn off it."""
    lone = Row("floor", "floor", (Measure("FD", "x", "lower", (1.0, 900.0)),))
    without = Row("model", "model", (Measure("KID", "x", "lower", (1.0, 2.0)),))
    empty = Row("empty", "model", (Measure("FD", "x", "lower", (None, None)),))
    assert in_view([lone, without, empty], "FD (x)") == ([lone], [])


def test_curves_have_a_panel_for_each_measure(tmp_path: Path) -> None:
    """Guards against measures that are cut off below the third row, and a file half written."""
    result = sample_result(range(1, 5), kinds=KINDS[:4])
    curves(result, result.labels[:1], tmp_path / "one.png")
    curves(result, result.labels, tmp_path / "four.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "four.png") as four:
        assert four.width > one.width and four.height > 1.5 * one.height
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.png", "one.png"]


def test_a_panel_shows_the_colours_of_both_models() -> None:
    """Guards against a line that is not drawn at all, or is hidden by another."""
    image = Image.open(io.BytesIO(panel(sample_result(range(1, 5), kinds=KINDS[:1]), "FD (efficientnet-lite0)")))
    found = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    drawn = strokes([Row(name, role, ()) for name, role, _ in ROWS])
    shown = {name for name, own in drawn.items() if _rgb(own.colour) in found}
    assert {SELF, DINO} <= shown


def test_names_with_dollars_are_no_formulas() -> None:
    """Guards against a crash of matplotlib over a folder named $x^$."""
    kinds = [type(KINDS[0])("$x^$", "clip:/a/$_$/" + "very/long" * 8, "lower", KINDS[0].levels)]
    result = sample_result(range(1, 3), kinds=kinds)
    assert panel(result, result.labels[0]).startswith(b"\x89PNG")


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
