"""Which device a name means, and whether torch can use it here."""

from __future__ import annotations

from m2m.types import UserError


def checked_device(name: str) -> str:
    """`auto` as the first GPU or the CPU; any other name as it is, if torch can use it here. Raises UserError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}") from error
    return name
