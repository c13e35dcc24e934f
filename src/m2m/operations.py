"""How much arithmetic a piece of code does, by torch's own formulas.

Not torch's `FlopCounterMode`: its watch over modules keeps alive what checkpointing frees, and it knows no attention of
CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
_FLOPS: dict[Any, Any] = flop_registry


class Operations(TorchDispatchMode):
    """Counts the operations of what runs inside, on real tensors or fake ones; changes nothing.

    Attributes: flops, two for each multiplication and addition of a matrix product or convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self._products: set[tuple[Any, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if formula := _FLOPS.get(packet):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            self._products.add((tensors[0].dtype, packet, *((t.shape, t.stride()) for t in tensors)))
        elif packet in _CPU_ATTENTION:
            self.flops += _CPU_ATTENTION[packet](*(arg.shape for arg in args if isinstance(arg, Tensor)))
        return result

    def products(self) -> dict[torch.dtype, int]:
        """How many different products and convolutions of each type there were."""
        dtypes = [product[0] for product in self._products]
        return {dtype: dtypes.count(dtype) for dtype in set(dtypes)}


def _attention_flops(query: Any, key: Any, value: Any, *_: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(gradient: Any, query: Any, key: Any, value: Any, *_: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# The fused kernels of CPUs, which torch's registry does not have.
_CPU_ATTENTION: dict[Any, Any] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
