"""Which storages live at which moment, and what a device holds in all for them to find room."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# glibc takes blocks from here on from the system and gives them back when they are freed (the most to which
# M_MMAP_THRESHOLD grows by itself, mallopt(3)); smaller ones come from its heap.
MAPPED = 32 << 20
GPU_BLOCK = 512  # bytes; torch's CUDA allocator rounds up to it


class Event(NamedTuple):
    """A storage comes (size in bytes), goes (its size, negative), or stays as the gradient of a weight (`gradient`,
    negative too, for it is no temporary any more)."""

    size: int
    gradient: bool = False


class Storages(TorchDispatchMode):
    """While it is entered, `events` grows with every storage that an operation makes and with its end."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def settle(self, gradient: Tensor) -> None:
        """This tensor has become a weight's gradient."""
        size = self._sizes.pop(gradient.untyped_storage()._cdata, 0)
        if size:
            self.events.append(Event(-size, gradient=True))

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.events.append(Event(storage.nbytes()))
            weakref.finalize(storage, self._end, key)

    def _end(self, key: int) -> None:
        if size := self._sizes.pop(key, 0):
            self.events.append(Event(-size))


def live_peak(sizes: Iterable[int]) -> int:
    """The most that lives at once. sizes: of what comes, and negative of what goes, in order."""
    now = peak = 0
    for size in sizes:
        blocks = -(-abs(size) // GPU_BLOCK) * GPU_BLOCK
        now += blocks if size > 0 else -blocks
        peak = max(peak, now)
    return peak


def heap_peak(sizes: Sequence[int], passing: int = 0) -> int:
    """What a process holds in all where glibc's malloc gives out the memory.

    A freed block below `MAPPED` stays in the heap. Small objects (the nodes of autograd, for instance) soon sit in it,
    so that it is a little too short for the next tensor of its size, which takes fresh memory. In the end each size has
    room of its own: as much as ever lived of that size at once, whatever lived of the others then.

    passing: so many events at the start make no such objects, being without gradient. What is freed then is whole.
    """
    now: dict[int, int] = defaultdict(int)
    most: dict[int, int] = defaultdict(int)
    for number, size in enumerate(sizes):
        block = abs(size)
        if block < MAPPED:
            now[block] += size
            if number >= passing:
                most[block] = max(most[block], now[block])
    first = live_peak(size for size in sizes[:passing] if abs(size) < MAPPED)
    return max(first, sum(most.values())) + live_peak(size for size in sizes if abs(size) >= MAPPED)
