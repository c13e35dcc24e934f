"""The sampler's memory: which images each set still sees, in which slot of the cache they lie (section 6.1, window W).

Softmax attention does not mind the order of its keys, so nothing is ever shifted: a new image is written over the one
that leaves the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from m2m.model.context import Column, ContextCache
from m2m.model.unet import M2MModel
from m2m.types import UserError

POLICIES = ("sliding", "anchor")


class Slot(NamedTuple):
    """One remembered image: where it lies, and whether the user gave it."""

    number: int
    given: bool


class ContextWindow:
    """The last W context images of each of B sets, as keys and values that are computed once per image.

    Args:
        model: writes the context.
        sets: B.
        size: W, slots per set; 0 for a sampler that never has a context.
        policy: ``sliding`` (the paper): the oldest image leaves. ``anchor``: given images stay, generated ones slide.
        timestep: noise level of the context (``context_noise``); None for clean images.
        reuse: False runs every context image again whenever it is read, as the paper does; for comparison only.
        chunk: context images run through the U-Net at once.

    Raises:
        UserError: an unknown policy.
    """

    def __init__(
        self,
        model: M2MModel,
        sets: int,
        size: int,
        policy: str = "sliding",
        timestep: int | None = None,
        reuse: bool = True,
        chunk: int = 8,
    ) -> None:
        if policy not in POLICIES:
            raise UserError(f"window_policy {policy!r} is unknown: use one of {', '.join(POLICIES)}")
        self._model = model
        self._sets = sets
        self._size = size
        self._policy = policy
        self._timestep = timestep
        self._reuse = reuse
        self._chunk = chunk
        self._kept: list[list[Slot]] = [[] for _ in range(sets)]
        self._features: Tensor | None = None
        self._cache = ContextCache()
        self._null: ContextCache | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images each set sees."""
        return tuple(len(kept) for kept in self._kept)

    @property
    def bytes_per_image(self) -> int:
        """Cache memory of one context image; 0 before the first."""
        return self._cache.bytes_per_image() if self._cache.keys else 0

    def append(self, features: Tensor, sets: Sequence[int], given: bool = False) -> None:
        """Adds ``features[m]`` (latents ``[C, h, w]``, or tokens ``[S, D]``) to set ``sets[m]``, oldest first."""
        if self._size == 0 or len(sets) == 0:
            return
        if self._features is None:
            self._features = features.new_zeros((self._sets, self._size, *features.shape[1:]))
        written: dict[tuple[int, int], None] = {}
        for feature, b in zip(features, sets, strict=True):
            slot = self._make_room(b, given)
            if slot is not None:
                self._features[b, slot] = feature
                written[b, slot] = None
        if self._reuse:
            self._write(list(written))

    def conditional(self) -> Column:
        """The conditional branch of equation 6: every set sees its whole window."""
        if not self._reuse:
            self._write([(b, slot.number) for b, kept in enumerate(self._kept) for slot in kept])
        return Column(self._cache, self.counts)

    def unconditional(self) -> Column:
        """The unconditional branch of equation 6.

        ``null_context="drop"``: sees nothing. ``"zeros"``: attends to zeroed latents or features; n equal images give
        the same attention as one, so one stands for all. A set without context sees nothing in either case.
        """
        if self._features is None or self._model.config.null_context == "drop":
            return Column(self._cache, (0,) * self._sets)
        if self._null is None:
            zeros = torch.zeros_like(self._features[:1, :1])  # [1, 1, ...]
            written = self._model.write_context(zeros, self._levels(zeros))
            self._null = ContextCache()
            self._null.allocate(written, self._sets, 1)
            for b in range(self._sets):
                self._null.insert(written, [b], [0])
        return Column(self._null, tuple(min(1, count) for count in self.counts))

    def _make_room(self, b: int, given: bool) -> int | None:
        """The slot for a new image of set b; None where anchors fill the window and a generated image finds no room."""
        kept = self._kept[b]
        if len(kept) < self._size:
            number = len(kept)
        else:
            movable = [slot for slot in kept if given or self._policy == "sliding" or not slot.given]
            if not movable:
                return None
            kept.remove(movable[0])
            number = movable[0].number
        kept.append(Slot(number, given))
        return number

    def _write(self, places: list[tuple[int, int]]) -> None:
        """Runs the images at (set, slot) through the model and puts their keys and values into the cache."""
        assert self._features is not None
        for start in range(0, len(places), self._chunk):
            sets, slots = zip(*places[start : start + self._chunk], strict=True)
            images = self._features[list(sets), list(slots)].unsqueeze(0)  # [1, M, ...]
            written = self._model.write_context(images, self._levels(images))
            if not self._cache.keys:
                self._cache.allocate(written, self._sets, self._size)
            self._cache.insert(written, sets, slots)

    def _levels(self, images: Tensor) -> Tensor | None:
        if self._timestep is None:
            return None
        return torch.full(images.shape[:2], self._timestep, device=images.device)
