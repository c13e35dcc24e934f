"""The sampler's memory: which images each set still sees, in which slot of the cache they lie (section 6.1, window W).

Softmax attention does not mind the order of its keys, so nothing is ever shifted: a new image is written over the one
that leaves the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from m2m.model.context import Column, ContextCache
from m2m.model.unet import M2MModel
from m2m.types import UserError

SLIDING, ANCHOR, NEAREST = POLICIES = ("sliding", "anchor", "nearest")


class Slot(NamedTuple):
    """One remembered image: where it lies, and whether it is an anchor."""

    number: int
    anchor: bool


@dataclass
class _Written:
    """Keys and values of the images as one branch reads them, and (set, slot) of those that it has not read yet."""

    cache: ContextCache = field(default_factory=ContextCache)
    waiting: dict[tuple[int, int], None] = field(default_factory=dict)


class ContextWindow:
    """W context images of each of B sets, as keys and values that are computed once per image.

    Args:
        model: writes the context.
        sets: B.
        size: W, how many images are seen; 0 for a sampler that never has a context.
        policy: ``sliding`` (the paper): the oldest image leaves. ``anchor``: all given images stay, however many, or
            the first image where none is given; others slide through what is left of W. ``nearest``: none leaves, and
            each new image sees those whose task conditions are nearest to its own.
        capacity: how many images are kept at most, where that is more than W: given ones for ``anchor``, all of them
            for ``nearest``; default W.
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
        policy: str = SLIDING,
        timestep: int | None = None,
        reuse: bool = True,
        chunk: int = 8,
        capacity: int | None = None,
    ) -> None:
        self._model = model
        self._sets = sets
        self._size = size
        self._slots = size if policy == SLIDING else max(size, capacity or 0)
        self._policy = checked_policy(policy)
        self._timestep = timestep
        self._reuse = reuse
        self._chunk = chunk
        self._kept: list[list[Slot]] = [[] for _ in range(sets)]
        self._features: Tensor | None = None
        self._conditions: Tensor | None = None
        self._seen: tuple[tuple[int, ...], ...] | None = None
        self._told = _Written()
        self._untold = _Written()
        self._null: ContextCache | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images each set sees."""
        return tuple(min(len(kept), self._size) if self._policy == NEAREST else len(kept) for kept in self._kept)

    @property
    def bytes_per_image(self) -> int:
        """Cache memory of one context image; 0 before the first."""
        self._bring_up_to_date(self._told)
        return self._told.cache.bytes_per_image() if self._told.cache.keys else 0

    def append(
        self, features: Tensor, sets: Sequence[int], given: bool = False, conditions: Tensor | None = None
    ) -> None:
        """Adds ``features[m]`` (latents ``[C, h, w]``, or tokens ``[S, D]``) to set ``sets[m]``, oldest first.

        conditions: of these images, ``[M, dim]``, for a model with a task; always or never.
        """
        if self._size == 0 or len(sets) == 0:
            return
        if self._features is None:
            self._features = features.new_zeros((self._sets, self._slots, *features.shape[1:]))
            if conditions is not None:
                self._conditions = conditions.new_zeros((self._sets, self._slots, conditions.shape[-1]))
        for m, b in enumerate(sets):
            slot = self._make_room(b, given)
            if slot is not None:
                self._features[b, slot] = features[m]
                if self._conditions is not None and conditions is not None:
                    self._conditions[b, slot] = conditions[m]
                for written in (self._told, self._untold):
                    written.waiting[b, slot] = None
        self._seen = None

    def look_from(self, conditions: Tensor) -> None:
        """Chooses what the next image of every set sees, with the policy ``nearest``: the W images whose conditions
        have the least Euclidean distance to its own, ``[B, dim]``; the newer one of two as near. Else nothing."""
        if self._policy != NEAREST or self._conditions is None:
            return
        distances = (self._conditions - conditions.to(self._conditions).unsqueeze(1)).norm(dim=-1)  # [B, slots]
        self._seen = tuple(
            tuple(sorted(range(count), key=lambda slot: (round(own[slot], 5), -slot))[: self._size])
            for own, count in zip(distances.tolist(), map(len, self._kept), strict=True)
        )

    def conditional(self) -> Column:
        """The conditional branch of equation 6, e(z, c) of equation 7: every set sees its whole window."""
        return self._column(self._told)

    def context_only(self) -> Column:
        """e(z, 0) of equation 7: the same images, none of which has a condition."""
        return self._column(self._untold)

    def unconditional(self) -> Column:
        """The unconditional branch of equation 6.

        ``null_context="drop"``: sees nothing. ``"zeros"``: attends to zeroed latents or features; n equal images give
        the same attention as one, so one stands for all; without reuse, as in the paper, all n are run at every step.
        A set without context sees nothing in either case.
        """
        if self._features is None or self._model.config.null_context == "drop":
            return Column(self._told.cache, (0,) * self._sets)
        if not self._reuse:
            zeros = torch.zeros_like(self._features[:, : max(self.counts)])  # [B, n, ...]
            return Column(self._model.write_context(zeros, self._levels(zeros)), self.counts)
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
        if len(kept) < (self._size if self._policy == ANCHOR and not given else self._slots):
            number = len(kept)
        else:
            movable = [slot for slot in kept if given or self._policy == SLIDING or not slot.anchor]
            if not movable:
                return None
            kept.remove(movable[0])
            number = movable[0].number
        kept.append(Slot(number, given or not kept))
        return number

    def _column(self, written: _Written) -> Column:
        """Every set's window, as one branch sees it; what is read is brought up to date first."""
        self._bring_up_to_date(written)
        return Column(written.cache, self.counts, self._places())

    def _bring_up_to_date(self, written: _Written) -> None:
        """Runs the images that wait; without reuse, as in the paper, all of them again."""
        places = list(written.waiting)
        if not self._reuse:
            places = [(b, slot.number) for b, kept in enumerate(self._kept) for slot in kept]
        written.waiting.clear()
        for start in range(0, len(places), self._chunk):
            self._write(written, places[start : start + self._chunk])

    def _write(self, written: _Written, places: list[tuple[int, int]]) -> None:
        """Runs the images at (set, slot) through the model and puts their keys and values into the cache."""
        assert self._features is not None
        sets, slots = (list(numbers) for numbers in zip(*places, strict=True))
        images = self._features[sets, slots].unsqueeze(0)  # [1, M, ...]
        conditions = None
        if self._conditions is not None and written is self._told:
            conditions = self._conditions[sets, slots].unsqueeze(0)  # [1, M, dim]
        made = self._model.write_context(images, self._levels(images), conditions)
        if not written.cache.keys:
            written.cache.allocate(made, self._sets, self._slots)
        written.cache.insert(made, sets, slots)

    def _places(self) -> tuple[tuple[int, ...], ...] | None:
        """Which slots each set sees; None: the first ones. Without a look, ``nearest`` sees the newest."""
        if self._policy != NEAREST:
            return None
        if self._seen is not None:
            return self._seen
        return tuple(tuple(slot.number for slot in kept[-self._size :]) for kept in self._kept)

    def _levels(self, images: Tensor) -> Tensor | None:
        if self._timestep is None:
            return None
        return torch.full(images.shape[:2], self._timestep, device=images.device)


def checked_policy(policy: str) -> str:
    """The policy. Raises UserError for an unknown one."""
    if policy not in POLICIES:
        raise UserError(f"window_policy {policy!r} is unknown: use one of {', '.join(POLICIES)}")
    return policy
