"""Checkpointing and compilation of blocks: neither changes a loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from m2m.config import config_dict
from m2m.model.unet import M2MModel
from m2m.training.loop import train
from m2m.training.parallel import Processes
from m2m.training.task import Share, StepBatch
from tests.tiny import CONTEXT_DIM, tiny_context, tiny_unet_config
from tests.training.toys import toy_config


class ModelTask:
    """Three images of two sets, whose prediction shall be zero; one level of blocks, so that few are compiled."""

    def __init__(self, variant: str) -> None:
        level = {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"]}
        sizes = {"block_out_channels": [8], "attention_head_dim": 2, "norm_num_groups": 4}
        torch.manual_seed(0)
        width = CONTEXT_DIM if variant == "dino" else None
        self.module = M2MModel(unet_config={**tiny_unet_config(), **level, **sizes}, variant=variant, context_dim=width)
        for parameter in self.module.image_set_attention_parameters():
            nn.init.normal_(parameter, std=0.3)
        self.losses: list[float] = []

    def accumulation(self, ranks: int) -> int:
        return 1

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[StepBatch]:
        while True:
            generator = torch.Generator().manual_seed(step)
            noisy = torch.randn(2, 3, 4, 8, 8, generator=generator)
            timesteps = torch.randint(0, 1000, (2, 3), generator=generator)
            context = tiny_context(self.module, 2, 3, seed=step)
            yield StepBatch(step, {"noisy": noisy, "timesteps": timesteps, "context": context})
            step += 1

    def loss(self, module: nn.Module, batch: StepBatch, step: int) -> tuple[Tensor, dict[str, float]]:
        loss = module(**batch.data, keep_context=torch.tensor([True, step == 0])).square().mean()
        self.losses.append(loss.item())
        return loss, {}


def losses(variant: str, out: Path, **changes: Any) -> tuple[list[float], set[str]]:
    """The losses of three steps, and the names of the tensors."""
    config = toy_config(out, steps=3, **changes)
    task = ModelTask(variant)
    with Processes(config) as processes:
        train(task, config, config_dict(config), processes)
    return task.losses, set(task.module.state_dict())


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_checkpointing_changes_no_loss(tmp_path: Path, variant: str) -> None:
    """Guards against blocks that are run a second time with another context."""
    plain, _ = losses(variant, tmp_path / "plain")
    again, _ = losses(variant, tmp_path / "again", gradient_checkpointing=True)
    assert plain == pytest.approx(again, abs=1e-6) and len(set(plain)) == 3


@pytest.mark.skipif(not os.environ.get("M2M_SLOW_TESTS"), reason="a C++ compiler works for minutes: M2M_SLOW_TESTS=1")
@pytest.mark.parametrize("variant", ["self", "dino"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_give_the_same_losses(tmp_path: Path, variant: str, checkpointing: bool) -> None:
    """Guards against a context that is recorded while a block is traced, and state that is saved under other names."""
    plain, names = losses(variant, tmp_path / "plain")
    compiled, same = losses(variant, tmp_path / "compiled", compile=True, gradient_checkpointing=checkpointing)
    assert compiled == pytest.approx(plain, abs=1e-5) and names == same
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "nothing was compiled"
