"""A report on the disk: all its files, readable again, small enough to be sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2m.evaluation.report.write import read_report, write_report
from m2m.types import UserError
from tests.evaluation.report.samples import KINDS, sample_result, sample_sheet


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_is_written_whole_and_read_again(tmp_path: Path) -> None:
    """Guards against files that are missing or left over, and a result that is not what was written."""
    result = sample_result(range(1, 3), kinds=KINDS[:2])
    page = write_report(result, tmp_path / "new" / "out")
    assert page == tmp_path / "new" / "out" / "report.html"
    assert names(page.parent) == ["curves.png", "report.html", "report.md", "result.json"]
    assert read_report(page.parent) == result


def test_one_position_leaves_no_curves_of_an_earlier_report(tmp_path: Path) -> None:
    """Guards against a plot of another result beside a report that has none."""
    write_report(sample_result(range(1, 3), kinds=KINDS[:1]), tmp_path)
    write_report(sample_result(range(1, 2), kinds=KINDS[:1]), tmp_path)
    assert names(tmp_path) == ["report.html", "report.md", "result.json"]
    assert "curves.png" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_page_with_sheets_can_be_sent(tmp_path: Path) -> None:
    """Guards against pages of tens of megabytes: six sheets, of 8 sets of 18 images each."""
    sheets = [sample_sheet(tmp_path, "one.png")]
    sheets += [type(sheets[0])(f"again {number}", "one.png") for number in range(5)]
    page = write_report(sample_result(range(1, 2), pictures=sheets, kinds=KINDS[8:10]), tmp_path)
    assert 6 * 20_000 < page.stat().st_size < 3_000_000


def test_what_is_no_result_is_said_to_be_none(tmp_path: Path) -> None:
    """Guards against a KeyError over a file of another kind."""
    with pytest.raises(UserError, match="does not exist"):
        read_report(tmp_path)
    for plain in ([], {"rows": 3}, {**sample_result().to_json(), "extra": 1}):
        (tmp_path / "result.json").write_text(json.dumps(plain), encoding="utf-8")
        with pytest.raises(UserError, match="no result of an evaluation"):
            read_report(tmp_path)
