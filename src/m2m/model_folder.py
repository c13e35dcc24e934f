"""What a model may be called, and the folder that it stands for: a shipped model, a folder, a hub id.

A folder is complete, as diffusers saves a pipeline; or it is derived: a fine-tuned model that shares parts with a
complete one, its base, and holds only what it does not share:

    derived.json         {"base": "tiny-self", "base_sha256": "...", "pipeline": {"default_guidance_scale": 3.0}}
    model/config.json    as in a complete folder
    model/diffusion_pytorch_model.safetensors    the tensors that are new or differ from the base's, in float16

The other tensors, the autoencoder, the vision encoder, the scheduler and the other settings are the base's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, sha256_of_files
from m2m.types import UserError

INDEX = "model_index.json"
DERIVED = "derived.json"
MODEL = "model"
WEIGHTS = "diffusion_pytorch_model.safetensors"
# What `derived.json` must say, and as what.
FIELDS = {"base": str, "base_sha256": str, "pipeline": dict}
# Weights in safetensors and the small files beside them: no pickles, nothing that runs.
HUB_FILES = ["*.json", "*.safetensors", "*.txt"]


@dataclass(frozen=True)
class Derivation:
    """What a derived model has of its base. base_sha256: the base's `weight_digest` when the model was made;
    settings: of the pipeline, where they differ."""

    base: ModelFolder
    base_sha256: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ModelFolder:
    """`name` as the user gave it, and the local folder that it stands for. derivation: None for a complete one."""

    name: str
    path: Path
    derivation: Derivation | None = None

    def part(self, name: str) -> Path:
        """Where a component's config lies, "model" or "vae" say, and its weights: all of them, but for the "model" of
        a derived folder. The folder may not exist."""
        if self.derivation is None or name == MODEL:
            return self.path / name
        return self.derivation.base.part(name)

    def weight_digest(self) -> str:
        """One sha256 over all weight files: the base's, if there is one, then the own, in the order of their names."""
        return sha256_of_files(self._weight_files())

    def condition(self) -> Mapping[str, Any] | None:
        """The fields of the model's `ConditionConfig`, without loading it; None where its images need none.

        Raises UserError where the folder holds no model of ours.
        """
        found: Mapping[str, Any] | None = read_json(self.part(MODEL) / "config.json").get("condition")
        return found

    def _weight_files(self) -> list[Path]:
        shared = self.derivation.base._weight_files() if self.derivation else []
        return shared + sorted(self.path.rglob("*.safetensors"))


def find_model(name: str) -> ModelFolder:
    """The folder of a model. A shipped name wins over a folder of that name; write `./tiny-self` for the folder.

    Raises UserError if nothing has that name, if what has it is no saved pipeline, or if its base is none.
    """
    folder = _place(name)
    if (folder / INDEX).is_file():
        return ModelFolder(name, folder)
    if (folder / DERIVED).is_file():
        return ModelFolder(name, folder, _derivation(folder / DERIVED))
    raise UserError(f"model '{name}' is no saved pipeline: '{folder}' holds no {INDEX}, and no {DERIVED}")


def shipped_models() -> list[str]:
    """The names of the models inside the installed package."""
    found = shipped_folder("").iterdir()
    return sorted(path.name for path in found if (path / INDEX).is_file() or (path / DERIVED).is_file())


def shipped_folder(name: str) -> Path:
    """Where the model lies inside the installed package."""
    return Path(str(files("m2m"))) / "weights" / name


def _place(name: str) -> Path:
    if name in shipped_models():
        return shipped_folder(name)
    if Path(name).exists():
        return Path(name)
    if not _could_be_hub_id(name):
        raise UserError(f"model '{name}' does not exist: no such folder, and not one of {', '.join(shipped_models())}")
    return _download(name)


def _derivation(file: Path) -> Derivation:
    """What the file says, its base found. A base that is derived itself is refused: chains of files would break."""
    content = read_json(file)
    if not isinstance(content, dict) or {key: type(value) for key, value in content.items()} != FIELDS:
        wanted = ", ".join(f"{key} ({kind.__name__})" for key, kind in FIELDS.items())
        raise UserError(f"'{file}' must hold these and nothing else: {wanted}")
    base = content["base"]
    try:
        place = _place(str(file.parent / base) if base.startswith(".") else base)
    except UserError as error:
        raise UserError(f"'{file}': its base is not there: {error}") from error
    if not (place / INDEX).is_file():
        raise UserError(f"'{file}': its base '{base}' is no complete pipeline: '{place}' holds no {INDEX}")
    return Derivation(ModelFolder(base, place), content["base_sha256"], content["pipeline"])


def _could_be_hub_id(name: str) -> bool:
    """`owner/model`: exactly one slash, and nothing that only a path has."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _download(name: str) -> Path:
    """The hub repository's files in the local cache. A second call needs no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"model '{name}' is no folder, and the hub did not give it: {reason}") from error
