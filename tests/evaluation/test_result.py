"""Results: through JSON and back, and the figures of a measure against numbers worked out by hand."""

from __future__ import annotations

import json

import pytest

from m2m.evaluation.result import Measure, Result, Row
from tests.evaluation.report.samples import sample_result


def measure(*values: float | None) -> Measure:
    return Measure("FD", "inception", "lower", values)


def test_a_result_survives_json() -> None:
    """Guards against lists where there were tuples, lost intervals, and rows that come back as plain dictionaries."""
    result = sample_result()
    again = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert again == result
    assert again.rows[0].measures[0].mean_interval == result.rows[0].measures[0].mean_interval != ()
    assert again.tables[0].cells[0] == ("two <cats> | & a_dog", "12")


def test_a_result_of_before_intervals_of_the_mean_is_read() -> None:
    """Guards against results on a disk that no longer open."""
    plain = json.loads(json.dumps(sample_result().to_json()))
    for row in plain["rows"]:
        for own in row["measures"]:
            del own["mean_interval"]
    assert Result.from_json(plain).rows[0].measures[0].mean_interval == ()


def test_figures_by_hand() -> None:
    """Guards against a deviation of the population (n), and a slope or a loss of the wrong sign."""
    own = measure(8, 6, 4, 2)
    assert own.mean == 5
    assert own.deviation == pytest.approx((20 / 3) ** 0.5)  # squares 9 + 1 + 1 + 9 over n - 1
    assert own.slope == pytest.approx(-2)
    assert own.first_minus_last == 6


def test_positions_without_a_value_are_left_out_and_keep_their_place() -> None:
    """Guards against None as 0, and against a slope over values that were moved together."""
    own = measure(1, None, 5)
    assert (own.mean, own.slope, own.first_minus_last) == (3, pytest.approx(2), -4)
    assert measure(None, 3, 5).first_minus_last is None
    lone = measure(None, 3)
    assert (lone.mean, lone.deviation, lone.slope) == (3, None, None)
    nothing = measure(None, None)
    assert (nothing.mean, nothing.deviation, nothing.slope, nothing.first_minus_last) == (None,) * 4


def test_measures_of_different_extractors_are_different() -> None:
    """Guards against numbers of two extractors in one column."""
    one, other = Measure("FD", "inception", "lower", (1,)), Measure("FD", "dinov2:small", "lower", (2,))
    row = Row("a", "model", (one, other))
    assert row.measure("FD (dinov2:small)") == other
    assert row.measure("KID (inception)") is None
    assert one.label != other.label


def test_labels_are_of_all_rows_each_once_in_order() -> None:
    """Guards against measures that only a floor has, and would be dropped."""
    result = sample_result()
    assert len(result.labels) == len(set(result.labels)) == 14
    assert result.labels[:2] == ["FD (efficientnet-lite0)", "KID (efficientnet-lite0)"]
