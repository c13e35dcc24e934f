"""The numbers of a card: of the right model, with the floors that they are read by, and no folder of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from m2m.checkpoint import write_json
from m2m.evaluation.result import Measure, Picture, Result, Row
from m2m.model_folder import find_model
from m2m.publishing.numbers import metrics, read_evaluation, tables
from m2m.publishing.stage import Publication, stage
from m2m.types import UserError


def row(name: str, role: str, value: float) -> Row:
    return Row(name, role, (Measure("FD", "efficientnet-lite0", "lower", (value, value + 2)),))  # type: ignore[arg-type]


RESULT = Result(
    title="Table 1: from four",
    protocol="table1",
    reading="Lower is better.",
    axis="generated image",
    positions=(1, 2),
    rows=(
        row("cats", "model", 40.0),
        row("cats, window 4", "model", 50.0),
        row("catsup", "model", 7.0),
        row("cats, shuffled contexts", "floor", 90.0),
        row("catsup, shuffled contexts", "floor", 91.0),
        row("truth through the autoencoder of catsup", "ceiling", 3.0),
        row("copy of the last given", "floor", 20.0),
    ),
    command="m2m eval --model cats --model catsup --out /home/jane/secret/table1",
    settings={"models": ["cats", "catsup"], "sets": 30, "seed": 0},
    versions={},
    pictures=(Picture("cats: the first sets", "first.png", "not chosen"), Picture("catsup: the first sets", "b.png")),
)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "table1"
    folder.mkdir()
    write_json(folder / "result.json", RESULT.to_json())
    Image.new("RGB", (8, 8)).save(folder / "first.png")
    return folder


def test_only_rows_of_the_model_and_what_they_are_compared_with(evaluation: Path) -> None:
    """Another model's numbers under this one's name: names may begin alike."""
    for place in (evaluation, evaluation / "result.json"):
        folder, result = read_evaluation(place, "cats")
        assert folder == evaluation
        names = [own.name for own in result.rows]
        assert names == ["cats", "cats, window 4", "cats, shuffled contexts", "copy of the last given"]
        assert [own.file for own in result.pictures] == ["first.png"]


def test_metadata_are_the_means_over_the_positions(evaluation: Path) -> None:
    """A floor's number, or one position's, in the hub's leaderboard."""
    found = metrics([read_evaluation(evaluation, "cats")[1]], "cats")
    assert [(own.metric_type, own.metric_value) for own in found] == [
        ("fd-efficientnet-lite0", 41.0),
        ("fd-efficientnet-lite0", 51.0),
    ]
    assert "cats, window 4" in str(found[1].metric_name) and found[0].dataset_args == {"sets": 30, "seed": 0}


def test_tables_have_floors_and_no_folders(evaluation: Path) -> None:
    text = "\n".join(tables(read_evaluation(evaluation, "cats")[1]))
    assert "copy of the last given (floor)" in text and "--out table1`" in text and "secret" not in text


def test_the_card_holds_numbers_and_shows_the_grids(evaluation: Path, tmp_path: Path) -> None:
    """A picture that is linked and missing, or metadata that the hub cannot read."""
    wanted = Publication("jane/cats", evaluations=[evaluation], evaluated_as="cats")
    stage(find_model("tiny-self"), wanted, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out/README.md")
    assert [own.metric_value for own in card.data.eval_results] == [41.0, 51.0]
    (link,) = [line for line in card.text.splitlines() if line.startswith("![")]
    assert (tmp_path / "out" / link.partition("<")[2].rstrip(">)")).read_bytes() == (
        evaluation / "first.png"
    ).read_bytes()


def test_mistakes_name_the_rows_that_are_there(evaluation: Path, tmp_path: Path) -> None:
    """The model was evaluated as ./runs/cats/model, and is pushed as runs/cats/model."""
    with pytest.raises(UserError, match="no row of 'dogs', only 'cats', 'cats, window 4', 'catsup': give --evaluated"):
        read_evaluation(evaluation, "dogs")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="other.json' is no result.json"):
        read_evaluation(tmp_path / "other.json", "cats")
    write_json(evaluation / "result.json", replace(RESULT, pictures=(Picture("cats", "gone.png"),)).to_json())
    with pytest.raises(UserError, match="shows 'gone.png', which is not in that folder"):
        stage(
            find_model("tiny-self"), Publication("j/c", evaluations=[evaluation], evaluated_as="cats"), tmp_path / "o"
        )
