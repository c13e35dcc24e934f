"""The benchmark of full-size training as it is called, at the tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.sd21_training import RandomSets, accepted, parse, run


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_one_batch_is_learned_and_everything_is_reported(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a batch, or its noise, that changes from step to step, so that a falling loss says nothing."""
    out = tmp_path / "out.json"
    options = ["--size=tiny", f"--variant={variant}", "--learning-rate=0.01", "--threads=1"]
    run(parse([*options, f"--folder={tmp_path}", f"--out={out}"]))
    results = json.loads(out.read_text())["results"]
    first, second, third = (step["loss"] for step in results["steps"])
    assert first > second > third and results["accepted"]
    assert all(value > 0 for step in results["steps"] for value in step.values())
    printed = capsys.readouterr().out
    assert f"| 3 | {third:.6f} |" in printed and printed.endswith("\naccepted\n")
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("losses", "memory", "verdict"),
    [
        ([1.0, 0.9, 0.8], 6.0, True),
        ([1.0, 0.9, 0.9], 6.0, False),
        ([1.0, 1.1, 0.8], 6.0, False),
        ([1.0, float("nan")], 6.0, False),
        ([1.0, 0.9], 21.0, False),
    ],
)
def test_the_verdict(losses: list[float], memory: float, verdict: bool) -> None:
    """Bug: a verdict that is always yes."""
    assert accepted(losses, memory) is verdict


def test_the_data_are_the_same_at_every_visit() -> None:
    """Bug: sets that are drawn anew each epoch, for which the loss of a step has no step to compare with."""
    sets = RandomSets(2, 3, 8, (5, 24))
    first, again, other = sets.visit(0, epoch=0), sets.visit(0, epoch=7), sets.visit(1, epoch=0)
    assert first.latents is not None and again.latents is not None and other.latents is not None
    assert first.latents.shape == (3, 4, 8, 8) and (first.latents == again.latents).all()
    assert (first.latents != other.latents).any()
