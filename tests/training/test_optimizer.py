"""Learning rates, and what the optimiser is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from m2m.training.optimizer import StepConfig, check_step_config, learning_rate, new_optimizer, trained_parameters
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "cosin"}, "schedule 'cosin' is not one of constant"),
        ({"precision": "fp16"}, "precision 'fp16' is not one of float32, bfloat16, float16"),
        ({"optimizer": "adam"}, "optimizer 'adam' is not one of adamw, adamw8bit"),
        ({"ema_device": "disk"}, "ema_device 'disk'"),
        ({"gradient_clip": -1.0}, "gradient_clip must not be negative"),
        ({"schedule": "wsd", "cooldown_steps": 11}, "cooldown_steps"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, object], words: str) -> None:
    """Guards against a misspelt schedule that trains at a constant rate."""
    with pytest.raises(UserError, match=words):
        check_step_config(StepConfig(**changes), steps=10)  # type: ignore[arg-type]


def test_vectors_are_not_decayed_and_frozen_weights_not_known() -> None:
    """Guards against weight decay that pulls gains and biases to zero, and moments of what does not move."""
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))
    module[2].requires_grad_(False)
    trained = trained_parameters(module)
    assert list(trained) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    groups = new_optimizer(trained, StepConfig()).param_groups
    assert {group["weight_decay"]: [p.ndim for p in group["params"]] for group in groups} == {0.01: [2], 0.0: [1, 1, 1]}
    assert [id(p) for group in groups for p in group["params"]] == [id(p) for p in trained.values()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the optimiser can be had")
def test_eight_bit_moments_need_a_gpu() -> None:
    """Guards against an error from inside a CUDA library, in the middle of the first step."""
    with pytest.raises(UserError, match="needs a GPU"):
        new_optimizer(trained_parameters(nn.Linear(2, 2)), StepConfig(optimizer="adamw8bit"))
