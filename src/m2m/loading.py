"""Loading a pipeline by its name: a shipped model, a folder as diffusers saves it, a derived one, a hub id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2m.checkpoint import check_names, load_tensors
from m2m.devices import checked_device
from m2m.model_folder import DERIVED, MODEL, WEIGHTS, ModelFolder, find_model
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.model.unet import M2MModel
    from m2m.pipeline import M2MPipeline


def load_pipeline(model: ModelFolder | str, device: str = "auto") -> M2MPipeline:
    """The pipeline in float32 on `device` ("auto": the first GPU if there is one).

    model: a name, as `find_model` takes it, or what that found. Raises UserError where there is no such model, where a
    weight is missing, left over or of another shape, and where the base of a derived model is not the one it had.
    """
    from diffusers.utils import logging
    from safetensors import SafetensorError

    found = find_model(model) if isinstance(model, str) else model
    place = checked_device(device)
    logging.disable_progress_bar()
    try:
        pipe = _complete(found) if found.derivation is None else _derived(found)
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"model '{found.name}' cannot be loaded: {reason}") from error
    return pipe.to(place)


def settings_of(pipe: M2MPipeline) -> dict[str, Any]:
    """What a pipeline's config holds beside its components, such as the default guidance."""
    hidden = [name for name in pipe.config if name.startswith("_")]
    return {name: value for name, value in pipe.config.items() if name not in [*pipe.components, *hidden]}


def _complete(model: ModelFolder) -> M2MPipeline:
    import torch

    from m2m.pipeline import M2MPipeline

    pipe: M2MPipeline = M2MPipeline.from_pretrained(model.path, dtype=torch.float32, local_files_only=True)
    return pipe


def _derived(model: ModelFolder) -> M2MPipeline:
    """The base's pipeline with the model's own tensors and settings in the place of the base's."""
    from m2m.pipeline import M2MPipeline

    assert model.derivation is not None
    base, wanted = model.derivation.base, model.derivation.base_sha256
    found = base.weight_digest()
    if found != wanted:
        raise UserError(
            f"model '{model.name}' was derived from other weights than '{base.name}' has now "
            f"(sha256 {found[:12]}, not {wanted[:12]}): get that version of the base"
        )
    pipe = _complete(base)
    settings = settings_of(pipe)
    if unknown := sorted(set(model.derivation.settings) - set(settings)):
        raise UserError(f"'{model.path / DERIVED}': '{unknown[0]}' is no setting; known: {', '.join(settings)}")
    parts = pipe.components | {MODEL: _assembled(model, pipe.model)}
    return M2MPipeline(**parts, **(settings | dict(model.derivation.settings)))


def _assembled(model: ModelFolder, base: M2MModel) -> M2MModel:
    """The model of a derived folder: its own tensors, and the base's for the rest; all of them and no others."""
    import torch

    from m2m.model.unet import M2MModel

    file = model.part(MODEL) / WEIGHTS
    with torch.device("meta"):
        made: M2MModel = M2MModel.from_config(M2MModel.load_config(model.part(MODEL)))
    tensors = base.state_dict() | {name: tensor.float() for name, tensor in load_tensors(file).items()}
    expected = made.state_dict()
    check_names(tensors, expected, str(file))
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            sizes = f"{list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise UserError(f"'{file}' does not fit: '{name}' has shape {sizes}")
    made.load_state_dict(tensors, strict=True, assign=True)
    return made.eval()
