"""Figure 6: positions are numbers of given images."""

from pathlib import Path

from m2m.data.worlds import Caption
from m2m.evaluation.protocols.known import find_protocol
from m2m.evaluation.sets import EvaluationSets
from tests.evaluation.protocols.evaluation import evaluated


def test_positions_are_numbers_of_given_images(tmp_path: Path) -> None:
    """By position of the generated image, the figure would show drift and be read as the value of context."""
    result = evaluated("context-length", tmp_path, sets=2, images=2, given=3)
    rows = {row.name: row for row in result.rows}
    assert result.positions == (1, 2, 3) and result.axis == "given images"
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "random-unconditional",
        *(f"random-window-all-given-{n}" for n in (1, 2, 3)),
    }
    found = rows["random"].measure("style consistency (colour)")
    assert len(set(found.values)) == 3, "another context makes other images"
    bound = rows["real against real"].measure("style consistency (colour)")
    assert len(bound.values) == 3 and len(set(bound.values)) == 1, "what knows no context does not change with it"
    assert result.tables[0].heads == ("", "1 given", "2 given", "3 given")


def test_sets_show_one_object_each() -> None:
    """Where captions leave the count free, count accuracy means nothing."""
    protocol = find_protocol("context-length")
    sets = EvaluationSets(protocol.default_data(5), 5, only=protocol.only, size=64)
    assert [Caption.parse(text).count for text in sets.captions] == [1] * 5
