"""Image-Set Attention (section 5.1, equation 4): a noisy image attends to the clean images before it.

The module takes the place of ``attn2``, the text cross-attention of a Stable Diffusion U-Net, and keeps the names of
its weights (``to_q``, ``to_k``, ``to_v``, ``to_out.0``). What it attends to arrives through the argument in which
diffusers passes the text, ``encoder_hidden_states``: a ``ContextWriter`` in the clean pass, a ``ContextReader`` in the
noisy one.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from m2m.model.conditions import projection
from m2m.model.context import ContextReader, ContextWriter


class ImageSetAttention(nn.Module):
    """Multi-head attention from a noisy image to keys and values of clean images.

    Args:
        layer: name of this layer inside the U-Net; the context keeps keys and values under it.
        query_dim: channels of the U-Net's hidden states at this layer.
        context_dim: channels of what keys and values are made from: ``query_dim`` for M2M-Self (the clean image's
            hidden states at this very layer), the vision encoder's width for M2M-DINO.
        heads, head_dim: as in the base U-Net's ``attn2``.
    """

    def __init__(self, layer: str, query_dim: int, context_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = heads
        inner_dim = heads * head_dim
        self.to_q = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_k = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner_dim, query_dim)])
        self.to_condition: nn.Linear | None = None

    def add_condition(self, width: int) -> None:
        """Lets embeddings of a task condition, ``width`` wide, enter here (section 6.2); nothing enters yet."""
        self.to_condition = projection(width, self.to_q.in_features)

    def zero_output(self) -> None:
        """Zeroes ``to_out``, so that the layer adds nothing: the start of training (README, decisions)."""
        for parameter in self.to_out.parameters():
            nn.init.zeros_(parameter)

    def keys_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Projects clean features ``[..., L, context_dim]`` to keys and values ``[..., L, heads, head_dim]``."""
        key = rearrange(self.to_k(features), "... l (h d) -> ... l h d", h=self.heads)
        value = rearrange(self.to_v(features), "... l (h d) -> ... l h d", h=self.heads)
        return key, value

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: ContextWriter | ContextReader,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Clean pass: records and returns zeros (z' = [z_c; z_n'], section 5.1). Noisy pass: equation 4.

        With a task condition, z = z_0 + E(c) in both (section 6.2): keys, values and queries are made of z, and since
        the block adds what is returned to z_0, E(c) is returned too.

        Args:
            hidden_states: ``[B*N, L, query_dim]``, already normalised by the block's ``norm2``.
            encoder_hidden_states: the context's writer or reader.
            attention_mask: must be None. Causality is in the reader; diffusers' additive masks are -10000, with which
                a row that may see nothing attends to everything.
        """
        if attention_mask is not None:
            raise ValueError("image-set attention takes no mask: what an image may see is decided by its reader")
        added = self._added(hidden_states, encoder_hidden_states.embedding)  # [B*N, L, query_dim] or None
        if added is not None:
            hidden_states = hidden_states + added
        if isinstance(encoder_hidden_states, ContextWriter):
            encoder_hidden_states.record(self.layer, *self.keys_values(hidden_states))  # each [B*N, L, heads, d]
            return torch.zeros_like(hidden_states) if added is None else added  # [B*N, L, query_dim]
        query = rearrange(self.to_q(hidden_states), "r l (h d) -> r l h d", h=self.heads)  # [B*T, L, heads, d]
        attended = encoder_hidden_states.attend(self.layer, query)  # [B*T, L, heads, d]
        result = self.to_out[0](rearrange(attended, "r l h d -> r l (h d)"))  # [B*T, L, query_dim]
        return result if added is None else result + added

    def _added(self, hidden_states: Tensor, embedding: Tensor | None) -> Tensor | None:
        """E(c) of section 6.2 for every token, ``[R, L, query_dim]``; None where there is no condition at all."""
        if self.to_condition is None or embedding is None:
            return None
        added = self.to_condition(embedding.to(hidden_states.dtype))  # [R, query_dim]
        return added.unsqueeze(1).expand_as(hidden_states)
