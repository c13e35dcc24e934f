"""Looking up the next part in the training data: what is right where the answer is known beforehand."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("next_part_lookup")


def squares(*corners: int, shade: int = 255) -> Tensor:
    """A procedure of dark squares on a light ground, one more a step: uint8 [S, 64, 64, 3]."""
    steps = torch.full((len(corners), 64, 64, 3), shade, dtype=torch.uint8)
    for step, corner in enumerate(corners):
        steps[step:, corner : corner + 16, corner : corner + 16] = 0
    return steps


def test_a_known_procedure_is_found_again_and_its_next_part_is_right(lookup: Any) -> None:
    """Guards against pairs that are put together wrongly: the step after the nearest one, not after another."""
    known = [squares(0, 20, 40), squares(40, 0, 20), squares(20, 40, 0)]
    found = lookup.look_up(known, [known[1]], given=1, nearest=2)
    assert found.shape == (1, 2) and found[0, 0] == 1 and found[0, 1] < 0.1


def test_what_changes_elsewhere_is_not_right(lookup: Any) -> None:
    """Guards against an overlap with what was there before."""
    assert lookup.look_up([squares(0, 20, 40)], [squares(0, 40)], given=1, nearest=1) < 0.1


def test_procedures_that_end_there_are_left_out(lookup: Any) -> None:
    known = [squares(0, 20, 40)]
    assert len(lookup.look_up(known, [squares(0, 20), squares(0, 20, 40)], given=2, nearest=1)) == 1
