"""What `--model` and `--device` may name, and loading it: a shipped model, a folder as diffusers saves it, a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from m2m.checkpoint import sha256_of_files
from m2m.devices import checked_device
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline

SHIPPED = ("tiny-self", "tiny-dino")
INDEX = "model_index.json"
# Weights in safetensors and the small files beside them: no pickles, nothing that runs.
HUB_FILES = ["*.json", "*.safetensors", "*.txt"]


@dataclass(frozen=True)
class ModelFolder:
    """`name` as the user gave it, and the local folder with `model_index.json` that it stands for."""

    name: str
    path: Path

    def weight_digest(self) -> str:
        """One sha256 over all weight files of the folder, in the order of their names."""
        return sha256_of_files(sorted(self.path.rglob("*.safetensors")))


def find_model(name: str) -> ModelFolder:
    """The folder of a model. A shipped name wins over a folder of that name; write `./tiny-self` for the folder.

    Raises UserError if nothing has that name, or if what has it is no saved pipeline.
    """
    if name in SHIPPED:
        return ModelFolder(name, _checked(shipped_folder(name), name))
    if Path(name).exists() or not _could_be_hub_id(name):
        return ModelFolder(name, _checked(Path(name), name))
    return ModelFolder(name, _checked(_download(name), name))


def shipped_folder(name: str) -> Path:
    """Where the model lies inside the installed package."""
    return Path(str(files("m2m"))) / "weights" / name


def load_pipeline(model: ModelFolder, device: str) -> M2MPipeline:
    """The pipeline in float32 on `device` ("auto": the first GPU if there is one). Raises UserError."""
    import torch
    from diffusers.utils import logging
    from safetensors import SafetensorError

    from m2m.pipeline import M2MPipeline

    place = checked_device(device)
    logging.disable_progress_bar()
    try:
        pipe = M2MPipeline.from_pretrained(model.path, dtype=torch.float32, local_files_only=True)
    except UserError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"model '{model.name}' cannot be loaded: {_first_line(error)}") from error
    return pipe.to(place)


def _could_be_hub_id(name: str) -> bool:
    """`owner/model`: exactly one slash, and nothing that only a path has."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _checked(folder: Path, name: str) -> Path:
    if not folder.exists():
        raise UserError(f"model '{name}' does not exist: no such folder, and not one of {', '.join(SHIPPED)}")
    if not (folder / INDEX).is_file():
        raise UserError(f"model '{name}' is no saved pipeline: '{folder}' holds no {INDEX}")
    return folder


def _download(name: str) -> Path:
    """The hub repository's files in the local cache. A second call needs no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        raise UserError(f"model '{name}' is no folder, and the hub did not give it: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
