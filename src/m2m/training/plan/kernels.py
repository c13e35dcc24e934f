"""How kernels of a GPU differ from those of a CPU in what they keep, for a rehearsal on CPU tensors.

Torch cannot rehearse on CUDA tensors where it was built without CUDA, and a run for GPUs is planned on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from m2m.model import context

# Of AT_FORALL_FP32 in ATen/autocast_mode.h, what a U-Net calls: autocast on a GPU computes it in float32, on a CPU in
# the type that comes in.
RAISED = frozenset({F.group_norm, F.layer_norm, F.interpolate, F.softmax, torch.softmax, Tensor.softmax})


class _GpuAutocast(TorchFunctionMode):
    """Under autocast, operations of `RAISED` get and give float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in RAISED or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        raised_args, raised_kwargs = tree_map(_raised, (args, kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            return func(*raised_args, **raised_kwargs)


@contextmanager
def kernels_of(device: str) -> Iterator[None]:
    """Meanwhile, operations on CPU tensors keep what those of `device` (`cpu`, `cuda`, ...) would keep."""
    if device.startswith("cpu"):
        yield
        return
    plain = context.attention
    # On a CPU it chooses the plain product for few queries; everywhere else torch's fused kernel.
    context.attention = F.scaled_dot_product_attention
    try:
        with _GpuAutocast():
            yield
    finally:
        context.attention = plain


def _raised(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
