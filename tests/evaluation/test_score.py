"""Scores before they are pooled."""

import math

import pytest
import torch

from m2m.evaluation.score import Score

NAN = math.nan


def test_a_value_a_set_is_averaged_over_the_sets_that_have_one() -> None:
    """A set whose caption fixes nothing would count as a failure."""
    score = Score("count", "truth probe", "higher", torch.tensor([[100.0, 0.0], [0.0, 0.0], [NAN, NAN]]))
    measure = score.by_position(positions=3)
    assert measure.values == (50.0, 0.0, None)
    assert measure.low[1] == measure.high[1] == 0.0
    assert measure.low[0] is not None and measure.high[0] is not None and measure.low[0] <= 50.0 <= measure.high[0]
    assert measure.mean_interval[0] <= 25.0 <= measure.mean_interval[1]


def test_a_measure_nobody_has_is_none_and_not_nan() -> None:
    """NaN is no JSON: the report could not be read again."""
    measure = Score("style", "truth probe", "higher", torch.full((3, 2), NAN)).by_position(2)
    assert measure.values == (None, None) and measure.low == (None, None) and measure.mean_interval == ()


def test_a_measure_of_all_sets_keeps_its_values_and_has_no_interval_of_the_mean() -> None:
    """An interval made of positions would pass for one over sets."""
    score = Score("FD", "efficientnet-lite0", "lower", values=(3.0, 5.0), low=(2.0, 4.0), high=(4.0, 6.0))
    measure = score.by_position(3)
    assert measure.values == (3.0, 5.0, None) and measure.low == (2.0, 4.0, None)
    assert score.pooled() == (4.0, None, None)


def test_pooling_is_the_mean_over_positions_with_its_interval() -> None:
    """Pooled over images as if they were independent, the interval would be too narrow."""
    per_set = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 100.0, 100.0, 100.0]]).repeat(8, 1)
    value, low, high = Score("count", "truth probe", "higher", per_set).pooled()
    assert value == pytest.approx(50.0)
    # 16 independent sets: a deviation of 12.5 points; 64 independent images would give 6.25.
    assert low is not None and high is not None and high - low > 40
