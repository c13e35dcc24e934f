"""Writing a derived model: a fine-tuned pipeline without what it shares with its base (its form: `model_folder`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from m2m.checkpoint import atomic_folder, save_tensors, write_json
from m2m.loading import load_pipeline, settings_of
from m2m.model_folder import DERIVED, MODEL, WEIGHTS, ModelFolder, find_model, shipped_models
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline


class Shares(NamedTuple):
    """The model's tensors that the folder keeps and those that are the base's, and their bytes in float16."""

    kept: int
    kept_bytes: int
    shared: int
    shared_bytes: int


def write_derived(pipe: M2MPipeline, base: ModelFolder, folder: str | Path) -> Shares:
    """Write what `pipe` does not share with `base`, whole or not at all, and load it again before it gets its name.

    A tensor is shared where it is the base's in float16, to the bit: what is loaded later is `pipe` in that precision.

    Args:
        pipe: fine-tuned from the base; a model without an adapter (`training.trainable.merged`).
        base: a complete model. Shipped models and those of the hub are written down by name, others by their place
            relative to `folder`.
        folder: what lies there is replaced.

    Raises:
        UserError: the base is derived itself, another part of the pipeline than the model differs from its, or a
            weight is too large for float16.
    """
    if base.derivation is not None:
        raise UserError(f"base '{base.name}' is derived itself, from '{base.derivation.base.name}': give that")
    original = load_pipeline(base, "cpu")
    _check_other_parts(pipe, original, base.name)
    tensors, theirs = _halves(pipe.model), _halves(original.model)
    own = {name: tensor for name, tensor in tensors.items() if not _same(tensor, theirs.get(name))}
    settings, former = settings_of(pipe), settings_of(original)
    content = {
        "base": _name_of(base, Path(folder)),
        "base_sha256": base.weight_digest(),
        "pipeline": {name: value for name, value in settings.items() if _plain(value) != _plain(former[name])},
    }
    with atomic_folder(folder) as staged:
        _write_model(pipe, own, staged / MODEL)
        write_json(staged / DERIVED, content)
        _verify(staged, tensors, settings)
    shared = [tensor for name, tensor in tensors.items() if name not in own]
    return Shares(len(own), _bytes(list(own.values())), len(shared), _bytes(shared))


def _write_model(pipe: M2MPipeline, tensors: dict[str, Tensor], folder: Path) -> None:
    with torch.device("meta"):
        pipe.model.rebuilt().save_config(folder)  # the config of a loaded model names the path that it was loaded from
    save_tensors(tensors, folder / WEIGHTS)


def _verify(staged: Path, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Load what was written as a user will. Raises RuntimeError if it is not what was to be written."""
    loaded = load_pipeline(find_model(str(staged)), "cpu")
    found = _halves(loaded.model)
    same = found.keys() == tensors.keys() and all(_same(found[name], tensors[name]) for name in tensors)
    if not same or _plain(settings_of(loaded)) != _plain(settings):
        raise RuntimeError("a derived model does not load as what was written")


def _check_other_parts(pipe: M2MPipeline, original: M2MPipeline, base: str) -> None:
    """The folder keeps a model alone: everything else must be the base's."""
    for name, part in pipe.components.items():
        if name != MODEL and not _same_part(part, original.components[name]):
            raise UserError(f"the pipeline's {name} is not that of base '{base}': only its model may differ")


def _same_part(part: Any, other: Any) -> bool:
    if type(part) is not type(other):
        return False
    if part is None:
        return True
    if _public(part.config) != _public(other.config):
        return False
    own, theirs = _halves(part), _halves(other)
    return own.keys() == theirs.keys() and all(_same(own[name], theirs[name]) for name in own)


def _halves(part: Any) -> dict[str, Tensor]:
    """All tensors of a network in float16; none of what is no network. Raises UserError for what float16 cannot say."""
    if not isinstance(part, nn.Module):
        return {}
    whole = {name: tensor.cpu() for name, tensor in part.state_dict().items()}
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in whole.items()}
    lost = next((name for name, half in halves.items() if not half.isfinite().all()), None)
    if lost is not None:
        raise UserError(f"weights '{lost}' are not finite in float16, in which models are shipped")
    return halves


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    """To the bit: 0 and -0 differ."""
    if other is None or tensor.dtype != other.dtype or tensor.shape != other.shape:
        return False
    own, theirs = (each.contiguous().reshape(-1).view(torch.uint8) for each in (tensor, other))
    return torch.equal(own, theirs)


def _public(config: Any) -> Any:
    return _plain({name: value for name, value in config.items() if not name.startswith("_")})


def _plain(value: Any) -> Any:
    """As JSON gives it back: a tuple that was written is a list when it is read."""
    return json.loads(json.dumps(value, default=list))


def _name_of(base: ModelFolder, folder: Path) -> str:
    if base.name in shipped_models() or not Path(base.name).exists():
        return base.name
    relative = os.path.relpath(base.path.resolve(), folder.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
