"""Loading a model with every weight accounted for.

diffusers logs a warning where a weight is missing and leaves it random (or empty, on the meta device); the pictures are
then noise and nobody knows why.
"""

from __future__ import annotations

from typing import Any, Self

from m2m.types import UserError


class StrictLoading:
    """Put before `ModelMixin` in the bases: `from_pretrained` reads safetensors alone, and all or nothing."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """As `ModelMixin.from_pretrained`; UserError where a weight is missing, left over or of another shape."""
        kwargs["use_safetensors"] = True
        loader: Any = super()
        model, info = loader.from_pretrained(pretrained_model_name_or_path, **{**kwargs, "output_loading_info": True})
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[kind]:
                raise UserError(_complaint(kind, info[kind], cls.__name__, pretrained_model_name_or_path))
        return model


def _complaint(kind: str, keys: Any, owner: str, place: Any) -> str:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    trouble = kind.split("_")[0]
    return f"'{place}' does not fit {owner}: {len(names)} {trouble} weights, '{names[0]}' first"
