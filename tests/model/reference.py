"""The slow, plain way: one joint pass over [clean images ; noisy image], no cache, at every step (section 5.1).

Written from the paper alone. It replaces the forward of each Image-Set Attention layer by explicit equation-4
arithmetic on the joint batch, so it shares nothing with the code it checks but the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from m2m.model.conditions import ConditionEmbedder
from m2m.model.image_set_attention import ImageSetAttention
from m2m.model.unet import M2MModel


def reference_prediction(
    model: M2MModel, noisy: Tensor, timestep: int, context: Tensor, conditions: Tensor | None = None
) -> Tensor:
    """Prediction for a noisy image ``[C, h, w]`` from its context: ``[n, C, h, w]`` latents or ``[n, S, D]`` tokens.

    conditions: ``[n + 1, dim]`` of the context and the noisy image (section 6.2).
    """
    embedded = None if conditions is None else embedding_by_hand(model.condition_embedder, conditions)
    shown = min(len(context), model.config.context_sizes) or float("nan")
    if model.config.variant == "dino":
        if conditions is not None:
            own = embedding_by_hand(model.context_embedder, conditions[:-1])
            context = context + (own @ model.context_projection.weight.T)[:, None]
            embedded = embedded[-1:]
        with _joint_attention(model, context, embedded):
            return model.unet(noisy[None], timestep, None, class_labels=torch.tensor([[shown]])).sample[0]
    joint = torch.cat([context, noisy[None]])
    timesteps = torch.tensor([model.config.clean_timestep] * len(context) + [timestep])
    with _joint_attention(model, None, embedded):
        labels = torch.tensor([[float("nan")]] * len(context) + [[shown]])
        return model.unet(joint, timesteps, None, class_labels=labels).sample[-1]


def embedding_by_hand(embedder: ConditionEmbedder, numbers: Tensor) -> Tensor:
    """The multilayer perceptron of a condition without sinusoids."""
    hidden = numbers @ embedder.hidden.weight.T + embedder.hidden.bias
    return (hidden * torch.sigmoid(hidden)) @ embedder.out.weight.T + embedder.out.bias


@contextmanager
def _joint_attention(model: M2MModel, tokens: Tensor | None, embedded: Tensor | None) -> Iterator[None]:
    layers = list(model.image_set_attentions())
    for layer in layers:
        layer.forward = _forward(layer, tokens, embedded)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: ImageSetAttention, tokens: Tensor | None, embedded: Tensor | None):
    def forward(hidden: Tensor, encoder_hidden_states: None = None, attention_mask: None = None) -> Tensor:
        added = torch.zeros_like(hidden)
        if embedded is not None:
            added = added + (embedded @ layer.to_condition.weight.T)[:, None]
        hidden = hidden + added
        clean = hidden[:-1] if tokens is None else tokens
        result = added.clone()
        result[-1] += _equation_4(layer, hidden[-1], clean)
        return result

    return forward


def _equation_4(layer: ImageSetAttention, noisy: Tensor, clean: Tensor) -> Tensor:
    queries = (noisy @ layer.to_q.weight.T).chunk(layer.heads, dim=-1)
    keys = (clean.flatten(0, 1) @ layer.to_k.weight.T).chunk(layer.heads, dim=-1)
    values = (clean.flatten(0, 1) @ layer.to_v.weight.T).chunk(layer.heads, dim=-1)
    heads = []
    for q, k, v in zip(queries, keys, values, strict=True):
        weights = torch.softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) if len(k) else q.new_zeros(len(q), 0)
        heads.append(weights @ v)
    return torch.cat(heads, dim=-1) @ layer.to_out[0].weight.T + layer.to_out[0].bias
