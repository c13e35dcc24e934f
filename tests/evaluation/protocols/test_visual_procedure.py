"""Visual procedures: next steps from every number of true ones, what each seen step adds, and going on alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.evaluation.candidates import Candidate
from m2m.evaluation.result import Result
from tests.evaluation.protocols.task_evaluation import evaluated_task
from tests.evaluation.tasks.figures import procedures

RIGHT, KEPT = "right next part (pixels)", "old parts kept (pixels)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("procedure")


@pytest.fixture(scope="module")
def result(place: Path) -> Result:
    """Of sets of 3, 4 and 5 steps, 2 of them given."""
    sets = procedures(place / "shards", [3, 4, 5])
    return evaluated_task("visual-procedure", sets, place / "out", 2)


def test_rows_are_of_next_steps_after_every_number_of_true_ones(result: Result) -> None:
    """Guards against a step scored as the next one's, and floors over other steps than the model's."""
    rows = {row.name: row for row in result.rows}
    assert {name: row.role for name, row in rows.items()} == {
        "tuned": "model",
        "tuned, sees the last 1": "model",
        "tuned, condition dropped": "floor",
        "base, not fine-tuned": "floor",
        "copy of the last given": "floor",
        "truth through the autoencoder of tuned": "ceiling",
    }
    assert result.axis == "step" and result.positions == (2, 3)
    assert all(len(own.values) == 2 for row in result.rows for own in row.measures)
    assert rows["copy of the last given"].measure(KEPT).values == (100.0, 100.0)
    assert rows["copy of the last given"].measure(RIGHT).values == (0.0, 0.0)


def test_a_context_of_one_differs_where_there_is_more(result: Result, place: Path) -> None:
    """Guards against a curve over the context whose points all saw the same."""
    first, second = (place / "out" / "images" / name for name in (OWN, SEEN))
    shown = [np.asarray(Image.open(folder / "000002" / "000.png")).astype(int) for folder in (first, second)]
    assert np.abs(shown[0] - shown[1]).max() > 0
    table = next(own for own in result.tables if own.title == "Step 3 by how many steps are seen")
    assert table.heads == ("", "measure", "last 1 seen", "last 2 seen")
    assert [line[:2] for line in table.cells] == [
        ("tuned", name) for name in ("old parts kept", "right next part", "overlap with the true part")
    ]
    assert result.pictures[0].title == "What each step seen adds"


OWN = "tuned-window-all-given-2-images-2"
SEEN = "tuned-window-all-sees-the-last-1-given-2-window-1-images-1"


def test_going_on_alone_is_told_by_steps(result: Result) -> None:
    """Guards against generated steps that nobody measures behind the first one."""
    table = next(own for own in result.tables if own.title == "tuned: going on alone")
    assert table.heads == ("", "measure", "step +1", "step +2")
    assert {line[0] for line in table.cells} == {"1 given", "2 given"} and len(table.cells) == 6
    finished = next(own for own in result.tables if own.title == "The finished picture")
    assert finished.heads[1] == "right, in % (gram)"
    assert {line[0]: line[2] for line in finished.cells}["tuned"] == "2", "sets of 3 and 4 end within two more steps"


def test_the_truth_made_elsewhere_is_right(place: Path) -> None:
    """Guards against pictures of a folder compared from another step on: they continue all given steps."""
    sets = procedures(place / "again", [4, 5])
    for index in range(2):
        folder = place / "theirs" / f"{index:06d}"
        folder.mkdir(parents=True)
        for number, step in enumerate(sets[index].real[:2]):
            Image.fromarray(step.numpy()).save(folder / f"{number}.png")
    theirs = Candidate("theirs", folder=place / "theirs")
    result = evaluated_task("visual-procedure", sets, place / "other", 2, theirs)
    row = next(row for row in result.rows if row.name == "theirs")
    assert row.measure(RIGHT).values == (None, 100.0) and row.measure(KEPT).values == (None, 100.0)
