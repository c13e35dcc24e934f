"""GPU arithmetic on CPU tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from m2m.model import context
from m2m.training.plan.kernels import kernels_of
from m2m.training.plan.rehearsal import rehearse
from tests.training.plan.outlines import SMALLEST, tiny_outline, tiny_settings


def test_a_gpu_works_norms_out_in_float32_and_fuses_attention() -> None:
    """Guards against plans for GPUs with the activations of a CPU: under autocast they are a fifth less."""
    x, scale = torch.randn(2, 4, 8, dtype=torch.bfloat16), torch.ones(4)
    own = F.group_norm, context.attention
    with kernels_of("cuda"):
        assert context.attention is F.scaled_dot_product_attention
        with torch.autocast("cpu", torch.bfloat16):
            assert F.group_norm(x, 2, scale).dtype == torch.float32
        assert F.group_norm(x, 2).dtype == torch.bfloat16
    assert (F.group_norm, context.attention) == own
    with kernels_of("cpu"):
        assert (F.group_norm, context.attention) == own


def test_checkpointing_computes_again_with_the_same_kernels() -> None:
    """Bug: what a GPU does differently ended with the forward pass, so that backward met tensors of another type."""
    config = tiny_settings(precision="bfloat16", gradient_checkpointing=True)
    outline = tiny_outline(unet=SMALLEST)
    again = rehearse(outline, config, 1, "cuda").flops
    assert again > 1.1 * rehearse(outline, replace(config, gradient_checkpointing=False), 1, "cuda").flops
