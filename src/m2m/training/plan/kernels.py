"""How kernels of a GPU differ from those of a CPU in what they keep, for a rehearsal on CPU tensors.

Torch cannot rehearse on CUDA tensors where it was built without CUDA, and a run for GPUs is planned on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from m2m.model import context

# What a U-Net calls of AT_FORALL_FP32 in ATen/autocast_mode.h: autocast on a GPU computes it in float32, on a CPU in
# the type that comes in.
RAISED = ("group_norm", "layer_norm", "interpolate", "softmax")


@contextmanager
def kernels_of(device: str) -> Iterator[None]:
    """Meanwhile, operations on CPU tensors keep what those of `device` (`cpu`, `cuda`, ...) would keep."""
    if device.startswith("cpu"):
        yield
        return
    # Not a TorchFunctionMode: it is off while `backward` runs, where checkpointing computes once more.
    raised = {name: _raised(getattr(F, name)) for name in RAISED}
    # On a CPU our attention chooses the plain product where queries are few; everywhere else torch's fused kernel.
    with _exchanged(F, **raised), _exchanged(context, attention=F.scaled_dot_product_attention):
        yield


@contextmanager
def _exchanged(module: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """The functions in the place of the module's own."""
    own = {name: getattr(module, name) for name in functions}
    vars(module).update(functions)
    try:
        yield
    finally:
        vars(module).update(own)


def _raised(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function that under autocast gets and gives float32."""

    @wraps(function)
    def raised(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        args, kwargs = tree_map(_float, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return raised


def _float(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
