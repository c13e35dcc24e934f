"""Table 1, and what every protocol shares."""

from pathlib import Path

from PIL import Image

from tests.evaluation.protocols.evaluation import evaluated


def test_floors_and_ceilings_stand_beside_the_model(tmp_path: Path) -> None:
    """Without them nobody can say whether a number is good."""
    result = evaluated("table1", tmp_path, sets=3, images=2)
    assert {row.name: row.role for row in result.rows} == {
        "random": "model",
        "random, shuffled contexts": "floor",
        "random, unconditional": "floor",
        "copy of the last given": "floor",
        "real against real": "ceiling",
    }
    rows = {row.name: row for row in result.rows}
    copies = {row: own.measure("near-copies (pixels)") for row, own in rows.items()}
    assert copies["copy of the last given"].values == (100.0, 100.0)
    assert copies["real against real"].mean < 50
    right = rows["real against real"].measure("category (truth probe)")
    assert right.values[0] > 60, "renderings show what their caption says"
    assert all(len(own.values) == 2 for row in result.rows for own in row.measures)
    assert result.positions == (1, 2)


def test_sheets_show_first_best_and_worst_sets(tmp_path: Path) -> None:
    """A reader who sees chosen sets alone is misled."""
    result = evaluated("table1", tmp_path, sets=9, images=2)
    titles = [own.title for own in result.pictures]
    assert titles == ["random: the first sets", "random: the best sets", "random: the worst sets"]
    assert all(Image.open(tmp_path / own.file).width > 300 for own in result.pictures)


def test_a_second_run_makes_no_image_again(tmp_path: Path) -> None:
    """An evaluation of hours that starts over after a typo in --extractor."""
    first = evaluated("table1", tmp_path, sets=2, images=2)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.png")}
    assert len(made) == 2 * 2 * 2
    assert evaluated("table1", tmp_path, sets=2, images=2).rows == first.rows
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.png")}
