"""Classifier-free guidance over the context (equation 6), and over the context and a task's condition (equation 7)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Equation 6: ``e(0) + s (e(context) - e(0))``, in float32. ``scale`` 1 gives the conditional prediction."""
    conditional, unconditional = conditional.float(), unconditional.float()
    return unconditional + scale * (conditional - unconditional)


def branch_weights(context_scale: float, condition_scale: float) -> tuple[float, float, float]:
    """What equation 7 comes to for e(0,0), e(z,0) and e(z,c): 1 - s_I, s_I - s_C, s_C. A branch of weight 0 need not be
    predicted: one or two are often enough."""
    return 1 - context_scale, context_scale - condition_scale, condition_scale


def guide_by_task(predicted: Sequence[Tensor | None], context_scale: float, condition_scale: float) -> Tensor:
    """Equation 7, in float32: ``e(0,0) + s_I (e(z,0) - e(0,0)) + s_C (e(z,c) - e(z,0))``.

    predicted: e(0,0), e(z,0) and e(z,c); None where ``branch_weights`` gives 0. So s_C = 0 is equation 6 exactly, and
    s_I = s_C = 1 is e(z,c) exactly.
    """
    weights = branch_weights(context_scale, condition_scale)
    there = [(weight, own.float()) for weight, own in zip(weights, predicted, strict=True) if own is not None]
    if len(there) == 1:
        return there[0][1]
    if len(there) == 2:  # the weights add up to 1: equation 6 between these two
        (_, low), (weight, high) = there
        return guide(high, low, weight)
    nothing, context, both = (own for _, own in there)
    return guide(context, nothing, context_scale) + condition_scale * (both - context)
