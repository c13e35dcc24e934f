"""Plans of a tiny run."""

from __future__ import annotations

import pytest

from m2m.training.plan.planning import Planner
from m2m.training.plan.remedies import remedy
from m2m.types import UserError
from tests.training.plan.outlines import tiny_outline, tiny_settings

RUNTIME = 1000


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(tiny_outline(), "cuda", 1, RUNTIME)
