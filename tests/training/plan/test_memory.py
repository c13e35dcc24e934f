"""The counted parts against the objects that take them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from m2m.training.average import Average
from m2m.training.optimizer import StepConfig, new_optimizer, trained_parameters
from m2m.training.plan.memory import (
    ADAMW_8BIT,
    Layout,
    Weights,
    activation_bytes,
    average_bytes,
    gradient_bytes,
    kernel_bytes,
    optimizer_bytes,
    weight_bytes,
)
from m2m.training.plan.rehearsal import Rehearsal
from m2m.training.plan.storages import Event
from m2m.training.trainable import set_trainable
from tests.tiny import tiny_model

MB = 1 << 20
ALONE = Layout("cuda")


def size(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("trainable", ["all", "image_set_attention", "lora"])
def test_state_is_what_the_trainer_holds(trainable: str) -> None:
    """Guards against a state that is counted in another precision, or for weights that are frozen."""
    model = tiny_model()
    set_trainable(model, trainable, frozen_precision="bfloat16")
    weights, trained = Weights.of(model), trained_parameters(model)
    optimizer = new_optimizer(trained, StepConfig())
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for own in optimizer.state.values() for key, t in own.items() if key != "step"]
    assert weight_bytes(weights, ALONE) == size(list(model.parameters()))
    assert gradient_bytes(weights, ALONE) == size([parameter.grad for parameter in trained.values()])
    assert optimizer_bytes(weights, "adamw", ALONE) == size(moments)
    assert average_bytes(weights, "", ALONE) == size(list(Average(trained, 0.9).tensors().values()))


def test_options_take_less() -> None:
    """Guards against options that the plan does not know."""
    weights = Weights(10_000, (8000, 2000), 40_000, 0, 0, 0, 0)
    assert optimizer_bytes(weights, "adamw8bit", ALONE) == int(8000 * ADAMW_8BIT) + 8 * 2000
    assert average_bytes(weights, "cpu", ALONE) == 0 and average_bytes(weights, "cpu", Layout("cpu")) == 40_000


def test_fsdp_joins_what_is_no_unit(tmp_path: Path) -> None:
    """Guards against units that are others here than in the trainer, which would misjudge what stays whole."""
    from torch.distributed.fsdp import FSDPModule

    from m2m.training.parallel import _sharded

    model = tiny_model()
    weights = Weights.of(model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        units = [part for part in _sharded(model, torch.device("cpu")).modules() if isinstance(part, FSDPModule)]
        inside = [set(unit.parameters()) for unit in units if unit is not model]
        joined = [parameter for parameter in model.parameters() if not any(parameter in own for own in inside)]
        assert size(joined) == weights.joined == weights.joined_trained
        assert max(size(list(own)) for own in inside) == weights.unit
    finally:
        dist.destroy_process_group()


def test_fsdp_parts_the_rest() -> None:
    """Guards against a plan in which processes share nothing, or all."""
    weights = Weights(100, (100,), 400, 0, 200, 200, 50)
    layout = Layout("cuda", processes=4, fsdp=True)
    assert weight_bytes(weights, layout) == 100 + 200 + 2 * 50
    assert gradient_bytes(weights, layout) == 100 + 200
    assert gradient_bytes(weights, Layout("cuda", 4, accumulation=2, fsdp=True)) == 100 + 400
    assert optimizer_bytes(weights, "adamw", layout) == 200 and average_bytes(weights, "", layout) == 100
    assert optimizer_bytes(weights, "adamw", Layout("cuda", processes=4)) == 800


def test_gradients_count_once() -> None:
    """Guards against gradients among activations: those of a lone micro-batch come while activations go."""
    events = (Event(8 * MB), Event(MB), Event(-8 * MB), Event(-MB, gradient=True))
    rehearsal, weights = Rehearsal(events, 0, 0, {}), Weights(MB // 4, (MB // 4,), MB, 0, 0, 0, 0)
    assert activation_bytes(rehearsal, weights, "cpu", ALONE) == 8 * MB
    assert activation_bytes(rehearsal, weights, "cpu", Layout("cuda", accumulation=2)) == 9 * MB


def test_the_average_needs_room_to_follow() -> None:
    """Guards against a run that dies at the end of its first step, where little is activated and much is trained."""
    weights = Weights(1, (MB,), 4 * MB, 0, 0, 0, 0)
    rehearsal = Rehearsal((Event(MB), Event(-MB, gradient=True)), 0, 0, {})
    assert activation_bytes(rehearsal, weights, "", Layout("cuda", accumulation=2)) == 4 * MB
    assert activation_bytes(rehearsal, weights, "cpu", Layout("cuda", accumulation=2)) == MB


def test_kernels_are_a_matter_of_the_cpu() -> None:
    """Guards against main memory that is counted on a GPU."""
    rehearsal = Rehearsal((), 0, 0, {torch.bfloat16: 2})
    assert kernel_bytes(rehearsal, Layout("cpu")) > 0 == kernel_bytes(rehearsal, ALONE)
