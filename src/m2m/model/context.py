"""The context: keys and values of clean images, per layer and per image (README, decisions).

A clean image is always run at the same timestep and sees no other image, so its keys and values depend on nothing but
itself. They are computed once and serve every denoising step, every later image and every window, exactly.

``ContextCache`` owns the tensors. Two views of it travel through the U-Net as ``encoder_hidden_states``:

    ``ContextWriter``  in the clean pass: records keys and values.
    ``ContextReader``  in the noisy pass: attends to them.

No object changes mode. Under gradient checkpointing a block runs twice, and a mode that flipped in between would make
the second run another function than the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass
class ContextCache:
    """Keys and values of up to N clean images for each of B sets.

    Attributes:
        keys, values: layer name -> ``[B, N, L, heads, head_dim]``. Softmax attention does not mind the order of its
            keys, so an image may lie in any slot along N; a reader sees the first ``count`` slots of a set.
    """

    keys: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)

    def writer(self, sets: int, embedding: Tensor | None = None) -> ContextWriter:
        """A view that records a clean pass over ``sets`` x N images, folded as ``(b n)``; embedding: as in there."""
        return ContextWriter(self, sets, embedding)

    def allocate(self, other: ContextCache, sets: int, slots: int) -> None:
        """Makes room for ``slots`` images in each of ``sets`` sets, with the layers, shapes and dtype of ``other``."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, tensor in theirs.items():
                mine[layer] = tensor.new_zeros((sets, slots, *tensor.shape[2:]))

    def insert(self, other: ContextCache, sets: Sequence[int], slots: Sequence[int]) -> None:
        """Puts image ``(0, i)`` of ``other`` into slot ``slots[i]`` of set ``sets[i]``, over what was there."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, tensor in theirs.items():
                mine[layer][list(sets), list(slots)] = tensor[0]

    def bytes_per_image(self) -> int:
        """Memory that one context image takes, over all layers."""
        tensors = [*self.keys.values(), *self.values.values()]
        return sum(t[0, 0].numel() * t.element_size() for t in tensors)


class ContextWriter:
    """Records what Image-Set Attention projects in the clean pass.

    Attributes:
        embedding: of the images' task conditions, ``[B*N, width]`` (section 6.2); None: they have none.
    """

    def __init__(self, cache: ContextCache, sets: int, embedding: Tensor | None = None) -> None:
        self._cache = cache
        self._sets = sets
        self.embedding = embedding

    def record(self, layer: str, key: Tensor, value: Tensor) -> None:
        """Keeps keys and values ``[B*N, L, heads, head_dim]`` of one layer; the first record of a layer stands.

        Gradient checkpointing runs the clean pass a second time during backward; that run is equal and not needed.
        """
        self._cache.keys.setdefault(layer, rearrange(key, "(b n) l h d -> b n l h d", b=self._sets))
        self._cache.values.setdefault(layer, rearrange(value, "(b n) l h d -> b n l h d", b=self._sets))


@dataclass(frozen=True)
class Column:
    """What one target of each set may see: ``counts[b]`` images of set b in ``cache``.

    slots: where they lie, ``counts[b]`` numbers for set b; None: in the first slots.
    """

    cache: ContextCache
    counts: tuple[int, ...]
    slots: tuple[tuple[int, ...], ...] | None = None


class ContextReader:
    """Attends from B sets of T targets each to their context, every target to its own number of images.

    Args:
        columns: T columns. In training column i is image i, which sees the images before it; in sampling the columns
            are the branches of guidance. A target that may see nothing gets exactly zero, and nobody pays for it.
        draws: each target stands for this many noisy copies, which share its keys and values.
        embedding: of the targets' task conditions, ``[B*T*draws, width]`` (section 6.2); None: they have none.
    """

    def __init__(self, columns: Sequence[Column], draws: int = 1, embedding: Tensor | None = None) -> None:
        self._columns = tuple(columns)
        self._draws = draws
        self.embedding = embedding

    @property
    def sizes(self) -> list[int]:
        """How many images each target is shown, folded as ``(b t k)``."""
        sets = zip(*(column.counts for column in self._columns), strict=True)
        return [count for counts in sets for count in counts for _ in range(self._draws)]

    def conditioned(self, embedding: Tensor | None) -> ContextReader:
        """The same view for targets with this embedding."""
        return ContextReader(self._columns, self._draws, embedding)

    @classmethod
    def causal(cls, cache: ContextCache, images: int, keep: Sequence[bool], draws: int = 1) -> ContextReader:
        """Training: image i of a set sees images 0..i-1; a set with ``keep`` False lost its context to dropout."""
        columns = [Column(cache, tuple(i if kept else 0 for kept in keep)) for i in range(images)]
        return cls(columns, draws)

    def attend(self, layer: str, query: Tensor) -> Tensor:
        """Queries and result are ``[B*T*draws, L, heads, head_dim]``, folded as ``(b t k)``."""
        targets, draws, length = len(self._columns), self._draws, query.shape[1]
        query = rearrange(query, "(b t k) l h d -> t b h (k l) d", t=targets, k=draws)
        attended = torch.stack([_attend_column(layer, q, c) for q, c in zip(query, self._columns, strict=True)])
        if torch.is_grad_enabled() and not any(any(column.counts) for column in self._columns):
            attended = attended + self._hold(layer, query)
        return rearrange(attended, "t b h (k l) d -> (b t k) l h d", l=length)

    def _hold(self, layer: str, query: Tensor) -> Tensor:
        """Zero, through which queries, keys and values that nobody reads still get a gradient, of zeros.

        Processes that train together must all reduce the gradients of the same parameters (DDP, FSDP), also one that
        dropped every context of its batch. The sum over no elements at all is zero even where they are NaN.
        """
        caches = {id(column.cache): column.cache for column in self._columns}.values()
        recorded = [tensors[layer] for c in caches for tensors in (c.keys, c.values) if layer in tensors]
        return torch.stack([tensor[:0].sum() for tensor in (query, *recorded)]).sum()


def _attend_column(layer: str, query: Tensor, column: Column) -> Tensor:
    """Sets with equally many visible images share one product; those with none stay zero."""
    counts = column.counts
    if len(set(counts)) == 1:
        if counts[0] == 0:
            return torch.zeros_like(query)
        everyone = slice(None) if column.slots is None else torch.arange(len(counts), device=query.device)
        return attention(query, *_sequence(column, layer, everyone, counts[0]))
    attended = torch.zeros_like(query)
    for count in sorted(set(counts) - {0}):
        sets = torch.tensor([b for b, c in enumerate(counts) if c == count], device=query.device)
        part = attention(query[sets], *_sequence(column, layer, sets, count))
        attended = attended.index_copy(0, sets, part.to(attended.dtype))
    return attended


def _sequence(column: Column, layer: str, sets: slice | Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The images that some sets see, as one sequence of keys and values ``[B, heads, count*L, head_dim]``."""
    key, value = column.cache.keys[layer], column.cache.values[layer]
    if column.slots is None:
        seen: tuple[slice | Tensor, slice | Tensor] = (sets, slice(count))
    else:
        assert isinstance(sets, Tensor)
        slots = torch.tensor([column.slots[b] for b in sets.tolist()], device=key.device)  # [B, count]
        seen = (sets.unsqueeze(1), slots)
    key = rearrange(key[seen], "b n l h d -> b h (n l) d")
    value = rearrange(value[seen], "b n l h d -> b h (n l) d")
    return key, value


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Equation 4: ``softmax(Q K^T / sqrt(d)) V`` over ``[B, heads, L, head_dim]``.

    Torch's fused kernel, except while training on a CPU: its backward there costs several times the plain product's at
    the few dozen tokens of the tiny models.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled() and query.shape[2] <= 256:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # [B, heads, Lq, Lk]
        return scores.float().softmax(dim=-1).to(value.dtype) @ value  # [B, heads, Lq, d]
    return F.scaled_dot_product_attention(query, key, value)  # [B, heads, Lq, d]
