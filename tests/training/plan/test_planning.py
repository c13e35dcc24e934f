"""Plans of a tiny run, and what would make it fit."""

from __future__ import annotations

from typing import Any

import pytest

from m2m.diffusion.objective import ObjectiveConfig
from m2m.training.image_sets import TrainConfig
from m2m.training.plan.planning import Planner
from m2m.training.plan.rehearsal import rollout_flops
from m2m.training.plan.remedies import changes_left, remedy
from m2m.types import UserError
from tests.training.plan.outlines import SMALLEST, tiny_outline, tiny_settings

RUNTIME = 1000


def new_planner(device: str = "cuda", processes: int = 1) -> Planner:
    return Planner(tiny_outline(unet=SMALLEST), device, processes, RUNTIME)


@pytest.fixture(scope="module")
def planner() -> Planner:
    """One device; shared, for it keeps its rehearsals."""
    return new_planner()


def settings(**changes: Any) -> TrainConfig:
    return tiny_settings(precision="bfloat16", **changes)


def test_a_plan_counts_steps_and_hours(planner: Planner) -> None:
    """Guards against operations of one set, process or micro-batch that are taken for those of a step."""
    alone = planner.plan(settings(), tflops=2.0)
    assert (alone.micro_batch, alone.accumulation, alone.processes) == (2, 1, 1)
    assert alone.weights.count == sum(alone.weights.numbers) > 20_000
    assert alone.hours == pytest.approx(10 * alone.flops / 2e12 / 3600)
    assert alone.activations[2] > alone.activations[1] and alone.memory.parts["activations"] == alone.activations[2]
    assert alone.memory.parts["runtime"] == RUNTIME
    assert alone.memory.total == sum(alone.memory.parts.values())


def test_hours_count_rollouts(planner: Planner) -> None:
    """Guards against samples of one set where the batch has more, and against memory that a sample does not take."""
    objective = ObjectiveConfig(rollout_probability=0.5, rollout_steps=2)
    plain, rolled = planner.plan(settings(), tflops=2.0), planner.plan(settings(objective=objective), tflops=2.0)
    own = rollout_flops(tiny_outline(unet=SMALLEST), settings(objective=objective))
    assert rolled.flops - plain.flops == pytest.approx(2 * own) and own > 0
    assert rolled.hours / plain.hours == pytest.approx(rolled.flops / plain.flops)
    assert rolled.memory == plain.memory


def test_processes_share_a_step(planner: Planner) -> None:
    """Guards against a batch that every process is thought to run whole."""
    pair = new_planner(processes=2)
    plan = pair.plan(settings(batch_sets=4, micro_batch_sets=1), tflops=2.0)
    assert (plan.micro_batch, plan.accumulation, plan.processes) == (1, 2, 2)
    assert plan.flops == 2 * planner.plan(settings(), tflops=2.0).flops
    assert plan.hours == pytest.approx(10 * plan.flops / 4e12 / 3600)
    with pytest.raises(UserError, match="batch_sets is 2: 2 processes with 3 sets at once"):
        pair.plan(settings(micro_batch_sets=3), tflops=1.0)


def test_a_smaller_micro_batch_comes_first(planner: Planner) -> None:
    """Guards against dearer advice where a smaller micro-batch is enough."""
    fits = planner.memory(settings(micro_batch_sets=1)).total
    assert remedy(planner, settings(), fits) == ({"micro_batch_sets": 1}, fits)


def test_needless_changes_are_left_out(planner: Planner) -> None:
    """Guards against advice that freezes the base and gives up everything before it as well."""
    before = {"micro_batch_sets": 1, "gradient_checkpointing": True}
    limit = planner.memory(settings(**before, trainable="image_set_attention")).total
    found = remedy(planner, settings(**before), limit)
    assert found and "trainable" in found[0]
    assert planner.memory(settings(**before, **found[0])).total == found[1] <= limit
    for needed in found[0]:
        fewer = {name: value for name, value in found[0].items() if name != needed}
        assert planner.memory(settings(**before, **fewer)).total > limit


def test_there_may_be_no_remedy(planner: Planner) -> None:
    """Guards against advice that cannot help."""
    assert remedy(planner, settings(), RUNTIME) is None


def names(planner: Planner, config: TrainConfig) -> list[str]:
    return [f"{name}={value}" for changes in changes_left(planner, config) for name, value in changes.items()]


def test_advice_is_for_this_run() -> None:
    """Guards against advice that the trainer refuses: FSDP alone, 8-bit moments in parts or on a CPU, half precision in
    a float32 run."""
    last = ["trainable=lora", "trainable=image_set_attention"]
    on_gpu = ["gradient_checkpointing=True", "ema_device=cpu", "optimizer=adamw8bit", *last]
    assert names(new_planner(), settings()) == on_gpu
    on_gpus = ["gradient_checkpointing=True", "parallel=fsdp", "ema_device=cpu", *last]
    assert names(new_planner(processes=2), settings()) == on_gpus
    on_cpu = tiny_settings(gradient_checkpointing=True, trainable="lora", frozen_precision="float32")
    assert names(new_planner("cpu"), on_cpu) == ["trainable=image_set_attention", "frozen_precision=float32"]
