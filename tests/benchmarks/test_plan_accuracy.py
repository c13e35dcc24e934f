"""The parts of the benchmark of plans: its settings, and what it reads of a dry run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.plan_accuracy import CASES, accepted, parts, row, settings
from m2m.cli.train_plan import memory_lines
from m2m.config import load_config
from m2m.training.image_sets import TrainConfig
from m2m.training.plan.memory import Memory, Weights
from m2m.training.plan.planning import Plan


@pytest.mark.parametrize("size", CASES)
def test_every_case_is_one_that_the_trainer_takes(size: str, tmp_path: Path) -> None:
    """Guards against a case with a setting that is gone, met after an hour of others."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings(size, tmp_path)))
    for changes in CASES[size]:
        assert load_config(TrainConfig, path, changes).steps <= 8


def test_it_reads_what_a_dry_run_prints() -> None:
    """Guards against a table of nothing, and against errors of the wrong sign."""
    memory = Memory({"weights": 10**9, "activations": 2 * 10**9})
    plan = Plan(Weights(0, (), 0, 0, 0, 0, 0), 1, 1, 1, memory, {1: 10**9, 2: 2 * 10**9}, 0, 0.0)
    found = parts("".join(f"# {line}\n" for line in memory_lines(plan, "cpu", 10**10)))
    assert found == {"weights": 1.0, "activations": 2.0, "together": 3.0}
    case = {"size": "tiny", "changes": [], "planned": found, "taken": 2.5}
    assert row(case).endswith("| 2.00 | 3.00 | 2.50 | +20.0% |") and not accepted([case])
    assert accepted([{**case, "taken": 3.2}])
