"""Learning rates, clipping and the moving average of one step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from m2m.training.step import Optimisation, StepConfig, learning_rate
from m2m.types import UserError


def rates(steps: int = 100, **changes: object) -> list[float]:
    config = StepConfig(learning_rate=1.0, warmup_steps=10, **changes)  # type: ignore[arg-type]
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_schedules() -> None:
    """Guards against a decay that starts too early, ends too high, or a first step at rate zero."""
    constant, cosine, wsd = rates(), rates(schedule="cosine"), rates(schedule="wsd", cooldown_steps=20)
    for schedule in (constant, cosine, wsd):
        assert schedule[0] == pytest.approx(0.1, rel=0.01)
    assert constant[10:] == [1.0] * 90
    assert cosine[50] == pytest.approx(0.5) and cosine[99] < 0.001
    assert wsd[10:81] == [1.0] * 71
    assert wsd[85] == pytest.approx(0.5) and 0 < wsd[99] < 0.03
    assert all(later <= earlier for earlier, later in zip(wsd[10:], wsd[11:], strict=False))


def test_a_branch_has_the_rates_of_its_trunk_until_it_cools() -> None:
    """Guards against a cooled-down branch whose early part is no longer the constant run it came from."""
    assert rates(schedule="wsd", cooldown_steps=20)[:80] == rates()[:80]


def test_impossible_schedules_are_named() -> None:
    """Guards against a misspelt schedule that trains at a constant rate."""
    for changes, words in [
        ({"schedule": "cosin"}, "schedule 'cosin'"),
        ({"precision": "fp16"}, "precision 'fp16'"),
        ({"schedule": "wsd", "cooldown_steps": 11}, "cooldown_steps"),
    ]:
        with pytest.raises(UserError, match=words):
            Optimisation(nn.Linear(2, 2), StepConfig(**changes), steps=10)  # type: ignore[arg-type]


def test_gradients_are_clipped_and_vectors_not_decayed() -> None:
    """Guards against clipping after the step, and weight decay that pulls gains and biases to zero."""
    module = nn.Linear(3, 3)
    optimisation = Optimisation(module, StepConfig(gradient_clip=0.5), steps=10)
    decays = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in optimisation.optimizer.param_groups}
    assert decays == {0.01: [2], 0.0: [1]}
    seen = []
    optimisation.optimizer.register_step_pre_hook(lambda *_: seen.append(module.weight.grad.norm().item()))
    _, logs = optimisation.step(0, lambda: (1000 * module.weight.sum(), {}))
    assert logs["gradient_norm"] == pytest.approx(3000, rel=0.01)
    assert seen[0] == pytest.approx(0.5, rel=0.01)


def test_average_follows_and_returns() -> None:
    """Guards against samples that leave averaged weights in the run, and an average that spans all of it."""
    module = nn.Linear(2, 2)
    optimisation = Optimisation(module, StepConfig(learning_rate=0.1, warmup_steps=0), steps=40)
    path = []
    for step in range(40):
        optimisation.step(step, lambda: (module.weight.sum(), {}))
        path.append(module.weight.detach().clone())
    trained = module.weight.detach().clone()
    with optimisation.averaged() as averaged:
        assert not averaged.training
        assert path[20].sum() > module.weight.sum() > path[-1].sum(), "spans a ninth of the run, not all of it"
    assert torch.equal(module.weight, trained) and module.training
