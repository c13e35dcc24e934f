"""The numbers of a model card: what evaluations found, as metadata that the hub reads and as tables for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m2m.evaluation.report import layout
from m2m.evaluation.report.markdown import escaped, table
from m2m.evaluation.report.write import RESULT, read_report
from m2m.evaluation.result import Picture, Result, Row
from m2m.types import UserError

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-to-image"
# The folders of an absolute path: they are the machine's.
ABSOLUTE = re.compile(r"(?<![^\s='\"])/(?:[^\s/]+/)+")


def read_evaluation(place: Path, model: str) -> tuple[Path, Result]:
    """An evaluation's folder or its result.json -> the folder, and what it says of `model` beside floors and ceilings.

    Raises UserError where there is no result, or where it has no row of that model.
    """
    folder = place.parent if place.name == RESULT else place
    if place.is_file() and place.name != RESULT:
        raise UserError(f"evaluation '{place}' is no {RESULT}: give the folder that m2m eval wrote, or its {RESULT}")
    result = read_report(folder)
    models = [row.name for row in result.rows if row.role == "model"]
    if not any(_is_of(name, model) for name in models):
        known = ", ".join(f"'{name}'" for name in models)
        raise UserError(f"'{folder / RESULT}' has no row of '{model}', only {known}: give --evaluated-as NAME")
    others = [name for name in _evaluated(result) if not _is_of(name, model) and not _is_of(model, name)]
    rows = tuple(row for row in result.rows if not any(_speaks_of(row, other) for other in others))
    pictures = tuple(own for own in result.pictures if not any(_is_of(own.title, other) for other in others))
    return folder, replace(result, rows=rows, pictures=pictures)


def metrics(results: Sequence[Result], model: str) -> list[EvalResult]:
    """The mean of every measure of the model's rows, over the positions, as the hub's model-index has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            dataset_type=result.protocol,
            dataset_name=result.title,
            dataset_args={key: result.settings[key] for key in ("sets", "seed") if key in result.settings},
            metric_type=_slug(measure.label),
            metric_name=f"{measure.label} of {row.name}, mean over {len(result.positions)} positions",
            metric_value=round(measure.mean, 4),
        )
        for result in results
        for row in result.rows
        if row.role == "model" and _is_of(row.name, model)
        for measure in row.measures
        if measure.mean is not None
    ]


def tables(result: Result) -> Iterator[str]:
    """Markdown blocks: what was done, a table an extractor, the command that makes it again."""
    yield f"### {escaped(result.title)}"
    yield escaped(result.reading)
    for extractor, labels in layout.by_extractor(result).items():
        sheet = layout.summary(result, labels)
        yield f"**{escaped(sheet.title)}; read by {escaped(extractor)}**"
        yield table(sheet)
    yield f"Made by `{' '.join(ABSOLUTE.sub('', result.command).replace('`', '').split())}`"


def grids_of(folder: Path, result: Result) -> list[tuple[Path, Picture]]:
    """The pictures of an evaluation, with where they lie. Raises UserError where one is missing."""
    found = [(folder / own.file, own) for own in result.pictures]
    missing = next((path for path, _ in found if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"'{folder / RESULT}' shows '{missing.name}', which is not in that folder: evaluate again")
    return found


def _evaluated(result: Result) -> list[str]:
    """The models of an evaluation by the names that it was given."""
    named = result.settings.get("models")
    return [str(name) for name in named] if isinstance(named, list | tuple) else []


def _is_of(row: str, model: str) -> bool:
    """Rows of a model have its name, or that and what is particular of them: "tiny-self, window 4"."""
    return row == model or row.startswith((f"{model},", f"{model}:"))


def _speaks_of(row: Row, model: str) -> bool:
    return _is_of(row.name, model) or row.name.endswith(f" of {model}")


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
