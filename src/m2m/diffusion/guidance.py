"""Classifier-free guidance over the context (equation 6)."""

from __future__ import annotations

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Equation 6: ``e(0) + s (e(context) - e(0))``, in float32. ``scale`` 1 gives the conditional prediction."""
    conditional, unconditional = conditional.float(), unconditional.float()
    return unconditional + scale * (conditional - unconditional)
