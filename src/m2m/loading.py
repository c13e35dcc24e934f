"""Loading a pipeline by its name: a shipped model, a folder as diffusers saves it, a derived one, a hub id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2m.devices import checked_device
from m2m.model_folder import ModelFolder, find_model
from m2m.types import UserError, first_line

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline


def load_pipeline(model: ModelFolder | str, device: str = "auto") -> M2MPipeline:
    """The pipeline in float32 on `device` ("auto": the first GPU if there is one).

    What `M2MPipeline.from_pretrained` does for programs in the manner of diffusers; here every failure is a UserError.

    model: a name, as `find_model` takes it, or what that found. Raises UserError where there is no such model, where a
    weight is missing, left over or of another shape, and where the base of a derived model is not the one it had.
    """
    import torch
    from diffusers.utils import logging
    from safetensors import SafetensorError

    from m2m.pipeline import M2MPipeline

    found = find_model(model) if isinstance(model, str) else model
    place = checked_device(device)
    logging.disable_progress_bar()
    try:
        pipe = M2MPipeline.from_folder(found, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        reason = first_line(error)
        raise UserError(f"model '{found.name}' cannot be loaded: {reason}") from error
    moved: M2MPipeline = pipe.to(place)
    return moved


def settings_of(pipe: M2MPipeline) -> dict[str, Any]:
    """What a pipeline's config holds beside its components, such as the default guidance."""
    hidden = [name for name in pipe.config if name.startswith("_")]
    return {name: value for name, value in pipe.config.items() if name not in [*pipe.components, *hidden]}
