"""A report in a folder: result.json, report.md, curves.png and, written last, report.html."""

from __future__ import annotations

from pathlib import Path

from m2m.checkpoint import atomic_write, read_json, write_json
from m2m.evaluation.report.markdown import markdown
from m2m.evaluation.report.page import html_page
from m2m.evaluation.report.plots import curves
from m2m.evaluation.result import Result
from m2m.types import UserError

RESULT, MARKDOWN, CURVES, PAGE = "result.json", "report.md", "curves.png", "report.html"


def write_report(result: Result, folder: str | Path) -> Path:
    """Write the report into the folder where the result's pictures lie; the path of the page.

    Each file is whole or not at all. A result of one position has no curves. Raises UserError where a picture is
    missing or broken, or without matplotlib.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT, result.to_json())
    drawn = len(result.positions) > 1 and bool(result.labels)
    if drawn:
        curves(result, result.labels, folder / CURVES)
    else:
        (folder / CURVES).unlink(missing_ok=True)  # of a result that was here before
    _write_text(folder / MARKDOWN, markdown(result, CURVES if drawn else None))
    _write_text(folder / PAGE, html_page(result, folder))
    return folder / PAGE


def read_report(folder: str | Path) -> Result:
    """The result that a report was written of. Raises UserError where there is none."""
    path = Path(folder) / RESULT
    plain = read_json(path)
    try:
        return Result.from_json(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is no result of an evaluation: {error!r}") from error


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
