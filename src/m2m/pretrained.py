"""`from_pretrained` for a pipeline that has a name: a shipped model, a folder, complete or derived, a hub id."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from safetensors import SafetensorError
from torch import Tensor

from m2m.checkpoint import check_names, load_tensors, read_json
from m2m.model.unet import M2MModel
from m2m.model_folder import (
    DERIVED,
    MODEL,
    NOT_INHERITED,
    SHARDS,
    WEIGHTS,
    Derivation,
    ModelFolder,
    find_model,
    is_complete_on_hub,
)
from m2m.types import UserError, first_line

# Of diffusers' options those that say how the hub is asked.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
# Those that place or change a network while it is read; a derived one is put together from two files.
WHOLE_ONLY = ("device_map", "quantization_config")


class NamedPipeline(DiffusionPipeline):
    """A diffusers pipeline of an `M2MModel` and other parts, which may be shipped, or share parts with another."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """A saved pipeline: as ``DiffusionPipeline.from_pretrained`` with all its options, and two more kinds.

        Args:
            pretrained_model_name_or_path: a shipped model (``m2m.model_folder.shipped_models()``), a folder as
                ``save_pretrained`` writes it, a derived one (``m2m.model_folder``), or a hub id. A shipped name wins
                over a folder of that name; write ``./tiny-self`` for the folder.
            options: ``dtype`` (float32 by default), ``variant``, ``local_files_only``, ``revision``, ..; a component
                or setting by its name goes in the place of the saved one (``scheduler=``, ``vae=``,
                ``default_guidance_scale=``). Of a derived model they go to its base where they are about files.

        Raises:
            UserError: nothing has that name, it is no saved pipeline, or a weight is missing, left over, of another
                shape, or of another base than the model was derived from.
            OSError, ValueError: diffusers' own, for what the hub or a file does not give.
        """
        name = os.fspath(pretrained_model_name_or_path)
        hub = {key: options[key] for key in HUB_OPTIONS if key in options}
        if is_complete_on_hub(name, **hub):
            loaded: Self = super().from_pretrained(name, **options)
            return loaded
        return cls.from_folder(find_model(name, **hub), **options)

    @classmethod
    def from_folder(cls, folder: ModelFolder, **options: Any) -> Self:
        """The pipeline of a folder that was found before; see ``from_pretrained``."""
        loader: Any = super()
        if folder.derivation is None:
            complete: Self = loader.from_pretrained(folder.path, **options)
            return complete
        _check_whole(folder, options)
        components, settings = _parameters(cls)
        own = [name for name in components if name != MODEL and name not in options and folder.holds(name)]
        parts = {name: _own_part(name, folder.part(name), options) for name in own}
        changes = {**_settings(settings, folder, folder.derivation), **parts, **options}
        places = [path for path in folder.derivation.base.path.iterdir() if path.is_dir()]
        if any(_variant_of(folder.part(name), options) for name in own) and not any(
            _variant_of(place, options) for place in places
        ):
            changes["variant"] = None  # diffusers refuses a variant that no component of the folder has
        if MODEL not in changes:
            changes[MODEL] = _assembled(folder, folder.derivation.base, options)
        derived: Self = loader.from_pretrained(folder.derivation.base.path, **changes)
        derived.register_to_config(_name_or_path=folder.name)
        return derived


def _check_whole(folder: ModelFolder, options: dict[str, Any]) -> None:
    """Raise UserError for what only a complete folder can do, and for another base than the model had."""
    assert folder.derivation is not None
    for name in WHOLE_ONLY:
        if options.get(name) is not None:
            advice = "load it without, save it with save_pretrained, and load that"
            raise UserError(f"{name} is not for '{folder.name}', a derived model: {advice}")
    base, wanted = folder.derivation.base, folder.derivation.base_sha256
    found = base.weight_digest()
    if found != wanted:
        raise UserError(
            f"model '{folder.name}' was derived from other weights than '{base.name}' has now "
            f"(sha256 {found[:12]}, not {wanted[:12]}): get that version of the base"
        )


def _parameters(kind: type[DiffusionPipeline]) -> tuple[list[str], list[str]]:
    """The names of a pipeline's components, and of its settings."""
    parameters = inspect.signature(kind.__init__).parameters
    optional = [each.name for each in parameters.values() if each.default is not inspect.Parameter.empty]
    settings = [name for name in optional if name not in kind._optional_components]
    return [name for name in parameters if name not in ("self", *settings)], settings


def _settings(known: list[str], folder: ModelFolder, derivation: Derivation) -> dict[str, Any]:
    """What the derived model has of its own beside its components. Raises UserError for an unknown name."""
    if unknown := sorted(set(derivation.settings) - set(known)):
        raise UserError(f"'{folder.path / DERIVED}': '{unknown[0]}' is no setting; known: {', '.join(known)}")
    return {**NOT_INHERITED, **derivation.settings}


def _own_part(name: str, place: Path, options: dict[str, Any]) -> Any:
    """A component that lies in the derived folder, read as diffusers reads one of a complete folder."""
    root: Any = SchedulerMixin if name == "scheduler" else ModelMixin
    file = place / ("scheduler_config.json" if name == "scheduler" else "config.json")
    kind = _class_of(file, root)
    how: dict[str, Any] = {}
    if root is ModelMixin:  # torch_dtype: the name by which diffusers' loader says it to classes of ours too
        how = {
            "torch_dtype": _dtype_of(name, options),
            "variant": _variant_of(place, options),
            "use_safetensors": True,
        }
    try:
        return kind.from_pretrained(place, **how)
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = first_line(error)
        raise UserError(f"'{place}', the {name} of a derived model, cannot be loaded: {reason}") from error


def _class_of(file: Path, root: type) -> Any:
    """The class that a config names: one of diffusers, among which ours stand (`remote_code`), and of this kind."""
    config = read_json(file)
    named = str(config.get("_class_name") if isinstance(config, dict) else None)
    try:
        found = getattr(diffusers, named, None)
    except (ImportError, RuntimeError):  # a module of diffusers that needs a package which is not here
        found = None
    if not (isinstance(found, type) and issubclass(found, root)):
        raise UserError(f"'{file}': class '{named}' is no {root.__name__} of diffusers or m2m")
    return found


def _assembled(folder: ModelFolder, base: ModelFolder, options: dict[str, Any]) -> M2MModel:
    """The model of a derived folder: its own tensors, and the base's for the rest; all of them and no others."""
    place = folder.part(MODEL)
    with torch.device("meta"):
        made: M2MModel = M2MModel.from_config(M2MModel.load_config(place))
    expected = made.state_dict()
    dtype = _dtype_of(MODEL, options)
    tensors = {name: tensor.to(dtype) for name, tensor in _saved_tensors(place).items()}
    if expected.keys() - tensors.keys():
        theirs = M2MModel.from_pretrained(
            base.part(MODEL), dtype=dtype, variant=_variant_of(base.part(MODEL), options)
        ).state_dict()
        tensors = {name: tensor for name, tensor in theirs.items() if name in expected} | tensors
    check_names(tensors, expected, str(place))
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            sizes = f"{list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise UserError(f"'{place}' does not fit: '{name}' has shape {sizes}")
    made.load_state_dict(tensors, strict=True, assign=True)
    return made.eval()


def _saved_tensors(place: Path) -> dict[str, Tensor]:
    """The tensors of one file, or of the shards that an index names. Raises UserError where these do not agree."""
    index = place / SHARDS
    if not index.is_file():
        return load_tensors(place / WEIGHTS)
    content = read_json(index)
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or any(Path(str(file)).name != file for file in files.values()):
        raise UserError(f"'{index}' must hold a weight_map: for each tensor the name of a file beside it")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        tensors |= load_tensors(place / file, [name for name, own in files.items() if own == file])
    return tensors


def _dtype_of(name: str, options: dict[str, Any]) -> torch.dtype:
    """The precision that a component is asked for in."""
    dtype = options.get("dtype", options.get("torch_dtype"))
    if isinstance(dtype, dict):
        dtype = dtype.get(name, dtype.get("default"))
    return dtype if isinstance(dtype, torch.dtype) else torch.float32  # what diffusers makes of None and "auto"


def _variant_of(place: Path, options: dict[str, Any]) -> str | None:
    """The variant that was asked for, only where the component has it: as diffusers reads one of a pipeline."""
    variant: str | None = options.get("variant")
    return variant if variant is not None and any(place.glob(f"*.{variant}[.-]*")) else None
