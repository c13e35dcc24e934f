"""One step in one process: micro-batches, clipping, loss scale, and what moves when something is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.step import Optimisation, StepResult
from m2m.training.task import StepBatch

New = Callable[..., Optimisation]


@pytest.fixture
def new() -> Iterator[New]:
    """A function that gives the optimisation of two small layers with dropout between, seeded."""
    opened: list[Processes] = []

    def make(dropout: float = 0.0, **changes: Any) -> Optimisation:
        config = LoopConfig(**{"learning_rate": 0.1, "warmup_steps": 0, **changes})
        opened.append(Processes(config))
        torch.manual_seed(3)
        module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(dropout), nn.Linear(3, 3))
        return Optimisation(module, config, 100, opened[-1])

    yield make
    for processes in opened:
        processes.close()


def data(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def take(
    run: Optimisation, *parts: Tensor, step: int = 0, factor: float = 1.0, stop: Callable[[], bool] = lambda: False
) -> StepResult | None:
    """A step on these micro-batches; their loss is a mean square times `factor`."""

    def loss(module: nn.Module, batch: StepBatch, step: int) -> tuple[Tensor, dict[str, float]]:
        value = module(batch.data["data"]).float().square().mean() * factor
        return value, {"rows": float(len(batch.data["data"]))}

    batches = iter([StepBatch(step, {"data": part}) for part in parts])
    return run.step(step, batches, loss, len(parts), stop)


def taken(run: Optimisation, *parts: Tensor, **arguments: Any) -> StepResult:
    result = take(run, *parts, **arguments)
    assert result is not None
    return result


def everything(run: Optimisation) -> list[Tensor]:
    """Copies of weights, average, optimiser state and the global generator."""
    states = [run.optimizer.state.get(parameter, {}) for parameter in run.trained.values()]
    moments = [value for own in states for value in own.values()]
    tensors = [*run.trained.values(), *run.average.tensors().values(), *moments, torch.get_rng_state()]
    return [tensor.detach().clone() for tensor in tensors]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_micro_batches_are_one_batch(new: New) -> None:
    """Guards against gradients that are summed where they should be averaged, and logs of the last part alone."""
    whole, parts = new(), new()
    one, two = taken(whole, data(4)), taken(parts, *data(4).chunk(2))
    assert float(one.loss) == pytest.approx(float(two.loss), rel=1e-6)
    assert (one.logs["rows"], two.logs["rows"]) == (4.0, 2.0)
    assert one.logs["gradient_norm"] == pytest.approx(two.logs["gradient_norm"], rel=1e-5)
    pairs = zip(everything(whole), everything(parts), strict=True)
    assert all((a.float() - b.float()).abs().max() < 1e-6 for a, b in pairs)
    assert [batch.keys for batch in two.batches] == [("step 0",), ("step 0",)]


def test_a_stop_between_micro_batches_changes_nothing(new: New) -> None:
    """Guards against half a gradient that is left behind, and dropout whose draws a resumed run does not repeat."""
    run, straight = new(dropout=0.5), new(dropout=0.5)
    torch.manual_seed(1)
    before = everything(run)
    asked = iter([False, True])
    assert take(run, *data(6).chunk(3), stop=lambda: next(asked)) is None
    assert same(before, everything(run)) and all(p.grad is None for p in run.trained.values())
    taken(run, *data(6).chunk(3))
    torch.manual_seed(1)
    taken(straight, *data(6).chunk(3))
    assert same(everything(run), everything(straight))


def test_what_is_not_finite_moves_nothing(new: New) -> None:
    """Guards against one bad sample that ruins weights, average or moments, and against the same for a gradient."""
    run = new()
    assert taken(run, data()).finite
    before = everything(run)
    bad = data()
    bad[1] = float("nan")
    result = taken(run, data(), bad, step=1)
    assert not result.finite and result.loss.isnan() and same(before, everything(run))
    # The loss is finite, its gradient is not: sqrt at 0.
    run.module[2].weight.register_hook(lambda gradient: gradient / 0)  # type: ignore[union-attr]
    assert not taken(run, data(), step=2).finite and same(before, everything(run))


@pytest.mark.parametrize("clip", [0.5, 0.0])
def test_gradients_are_clipped_unless_clip_is_zero(new: New, clip: float) -> None:
    """Guards against clipping after the step, and a clip of 0 that removes all of the gradient."""
    run = new(gradient_clip=clip)
    seen: list[float] = []

    def look(*_: Any) -> None:
        seen.append(float(torch.cat([p.grad.flatten() for p in run.trained.values() if p.grad is not None]).norm()))

    run.optimizer.register_step_pre_hook(look)
    logged = float(taken(run, data(), factor=1000.0).logs["gradient_norm"])
    assert logged > 100
    assert seen == [pytest.approx(clip or logged, rel=0.01)]


def test_the_rate_follows_the_schedule(new: New) -> None:
    """Guards against a rate that is logged but not taken."""
    run = new(warmup_steps=4)
    rates = [taken(run, data(), step=step).logs["learning_rate"] for step in range(5)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.1, 0.1]


def test_averaged_is_a_visit(new: New) -> None:
    """Guards against samples with dropout, and a run that stays in eval mode behind them."""
    run = new(dropout=0.5)
    for step in range(3):
        taken(run, data(seed=step), step=step)
    before = everything(run)
    with run.averaged() as module:
        assert not module.training and torch.equal(module[0].weight, run.average.tensors()["0.weight"])  # type: ignore
        assert not torch.equal(module[0].weight, before[0])  # type: ignore[index]
    assert run.module.training and same(before, everything(run))


def test_float16_lowers_its_scale_and_goes_on(new: New) -> None:
    """Guards against a step that moves along an overflow, and against one that counts as a failure of the run."""
    run = new(precision="float16")
    scaler = run.processes.scaler
    assert scaler is not None
    start = everything(run)
    first = taken(run, data(), factor=0.01)
    assert first.finite and first.logs["loss_scale"] == 65536 and not same(start, everything(run))
    before = everything(run)
    result = taken(run, data(), factor=1e5, step=1)  # the gradient times 65536 is beyond float16
    assert result.finite and result.loss.isfinite() and same(before, everything(run))
    assert scaler.get_scale() == 32768
    # Once the scale has nothing left to give, it is not the scale's fault.
    scaler.update(new_scale=0.5)
    run.module[2].weight.register_hook(lambda gradient: gradient / 0)  # type: ignore[union-attr]
    assert not taken(run, data(), step=2).finite and same(before, everything(run))


def test_float16_trains_as_float32(new: New) -> None:
    """Guards against gradients that are clipped or applied while they still carry the scale."""
    half, full = new(precision="float16", gradient_clip=0.1), new(gradient_clip=0.1)
    for run in (half, full):
        for group in run.optimizer.param_groups:
            group["eps"] = 0.1  # Adam's own would hide the size of the gradient
    norms = [float(taken(run, data(), factor=0.1).logs["gradient_norm"]) for run in (half, full)]
    assert norms[0] == pytest.approx(norms[1], rel=0.01) and norms[0] > 0.1
    assert half.average.tensors()["0.weight"].equal(half.trained["0.weight"]), "the first step was skipped"
    assert all((a - b).abs().max() < 1e-3 for a, b in zip(half.trained.values(), full.trained.values(), strict=True))
    assert all(parameter.dtype == torch.float32 for parameter in half.trained.values())
