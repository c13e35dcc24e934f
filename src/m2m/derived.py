"""Writing a derived model: a fine-tuned pipeline without what it shares with its base (its form: `model_folder`)."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from m2m.checkpoint import atomic_folder, read_json, save_tensors, write_json
from m2m.loading import load_pipeline, settings_of
from m2m.model_folder import (
    DERIVED,
    MODEL,
    NOT_INHERITED,
    SHARDS,
    WEIGHTS,
    ModelFolder,
    find_model,
    shipped_models,
)
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline


SHARD = "15MB"  # a repository's limit on a file


class Shares(NamedTuple):
    """The model's tensors that the folder keeps and those that are the base's, and their bytes in float16; the names
    of the other components that it keeps and that are the base's."""

    kept: int
    kept_bytes: int
    shared: int
    shared_bytes: int
    kept_parts: tuple[str, ...]
    shared_parts: tuple[str, ...]


def write_derived(pipe: M2MPipeline, base: ModelFolder, folder: str | Path) -> Shares:
    """Write what `pipe` does not share with `base`, whole or not at all, and load it again before it gets its name.

    A tensor is shared where it is the base's in float16, to the bit: what is loaded later is `pipe` in that precision.

    Args:
        pipe: fine-tuned from the base, or another model that shares a component with it; without an adapter
            (`training.trainable.merged`).
        base: a complete model. Shipped models and those of the hub are written down by name, others by their place
            relative to `folder`.
        folder: what lies there is replaced.

    Raises:
        UserError: the base is derived itself or has a component that `pipe` lacks, or a weight is too large for
            float16.
    """
    if base.derivation is not None:
        raise UserError(f"base '{base.name}' is derived itself, from '{base.derivation.base.name}': give that")
    original = load_pipeline(base, "cpu")
    parts = _own_parts(pipe, original, base.name)
    tensors, theirs = _halves(pipe.model), _halves(original.model)
    own = {name: tensor for name, tensor in tensors.items() if not _same(tensor, theirs.get(name))}
    settings, former = settings_of(pipe), {**settings_of(original), **NOT_INHERITED}
    content = {
        "base": _name_of(base, Path(folder)),
        "base_sha256": base.weight_digest(),
        "pipeline": {name: value for name, value in settings.items() if _plain(value) != _plain(former[name])},
    }
    with atomic_folder(folder) as staged:
        _write_model(pipe, own, staged / MODEL)
        for name, part in parts.items():
            _write_part(part, staged / name)
        write_json(staged / DERIVED, content)
        _verify(staged, pipe)
    shared = [tensor for name, tensor in tensors.items() if name not in own]
    others = tuple(name for name, part in pipe.components.items() if part is not None and name not in (MODEL, *parts))
    return Shares(len(own), _bytes(list(own.values())), len(shared), _bytes(shared), tuple(parts), others)


def _write_model(pipe: M2MPipeline, tensors: dict[str, Tensor], folder: Path) -> None:
    with torch.device("meta"):
        pipe.model.rebuilt().save_config(folder)  # the config of a loaded model names the path that it was loaded from
    pattern = WEIGHTS.replace(".", "{suffix}.")
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=SHARD)
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
    if split.is_sharded:
        write_json(folder / SHARDS, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def _write_part(part: Any, folder: Path) -> None:
    """A component as diffusers saves it, networks in float16, without the path that it was loaded from."""
    kept = copy.deepcopy(part)
    if isinstance(kept, nn.Module):
        kept.half()
    kept.save_pretrained(folder, max_shard_size=SHARD)
    for path in folder.glob("*config.json"):
        write_json(path, {name: value for name, value in read_json(path).items() if name != "_name_or_path"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes files that only their owner can read


def _verify(staged: Path, pipe: M2MPipeline) -> None:
    """Load what was written as a user will. Raises RuntimeError if it is not what was to be written."""
    loaded = load_pipeline(find_model(str(staged)), "cpu")
    wrong = [name for name, part in pipe.components.items() if not _same_part(part, loaded.components[name])]
    if wrong or _plain(settings_of(loaded)) != _plain(settings_of(pipe)):
        raise RuntimeError(f"a derived model does not load as what was written: {', '.join(wrong) or 'its settings'}")


def _own_parts(pipe: M2MPipeline, original: M2MPipeline, base: str) -> dict[str, Any]:
    """The components beside the model that are not the base's. One that is lacking cannot be written down."""
    others = {name: part for name, part in pipe.components.items() if name != MODEL}
    own = {name: part for name, part in others.items() if not _same_part(part, original.components[name])}
    if absent := [name for name, part in own.items() if part is None]:
        raise UserError(f"the pipeline has no {absent[0]}, which base '{base}' has: give a base without it")
    return own


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
