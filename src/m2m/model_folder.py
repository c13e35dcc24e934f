"""What a model may be called, and the folder that it stands for: a shipped model, a folder, a hub id.

A folder is complete, as diffusers saves a pipeline; or it is derived: a fine-tuned model that shares parts with a
complete one, its base, and holds only what it does not share:

    derived.json         {"base": "tiny-self", "base_sha256": "...", "pipeline": {"default_guidance_scale": 3.0}}
    model/config.json    as in a complete folder
    model/diffusion_pytorch_model.safetensors    the tensors that are new or differ from the base's, in float16
    vision_encoder/      a component of its own, as in a complete folder; "vae" and "scheduler" likewise

The other tensors and components are the base's, and the settings but `NOT_INHERITED`. Large weights may lie in shards,
as diffusers writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, sha256_of_files
from m2m.types import UserError, first_line

INDEX = "model_index.json"
DERIVED = "derived.json"
MODEL = "model"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
# What `derived.json` must say, and as what.
FIELDS = {"base": str, "base_sha256": str, "pipeline": dict}
# Settings that a derived model does not take from its base, and what they are where its file names none. A model of a
# task sees other images than its base, and files that are older than these settings must not change their meaning.
NOT_INHERITED: Mapping[str, Any] = {"default_window": None, "default_window_policy": "sliding"}
# Weights in safetensors and the small files beside them: no pickles, nothing that runs.
HUB_FILES = ["*.json", "*.safetensors", "*.txt"]


@dataclass(frozen=True)
class Derivation:
    """What a derived model has of its base. base_sha256: the base's `weight_digest` when the model was made;
    settings: of the pipeline, where they differ from the base's and from `NOT_INHERITED`."""

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
        a derived folder. What a derived folder does not hold is its base's. The folder may not exist."""
        if self.derivation is None or name == MODEL or self.holds(name):
            return self.path / name
        return self.derivation.base.part(name)

    def holds(self, name: str) -> bool:
        """Whether the component lies in this folder itself, not in that of its base."""
        return (self.path / name).is_dir()

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


def find_model(name: str, **hub: Any) -> ModelFolder:
    """The folder of a model. A shipped name wins over a folder of that name; write `./tiny-self` for the folder.

    hub: how a hub id is looked up: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`.

    Raises UserError if nothing has that name, if what has it is no saved pipeline, or if its base is none.
    """
    folder = _place(name, hub)
    if (folder / INDEX).is_file():
        return ModelFolder(name, folder)
    if (folder / DERIVED).is_file():
        return ModelFolder(name, folder, _derivation(folder / DERIVED, hub))
    raise UserError(f"model '{name}' is no saved pipeline: '{folder}' holds no {INDEX}, and no {DERIVED}")


def is_complete_on_hub(name: str, **hub: Any) -> bool:
    """Whether the name is a hub id, and not of a derived model: a complete one, or nothing that can be had."""
    if not _is_hub_id(name):
        return False
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, DERIVED, **hub)
    except Exception:  # no such file, no such repository, no network: whoever asks for the rest will say which
        return True
    return False


def shipped_models() -> list[str]:
    """The names of the models inside the installed package."""
    found = shipped_folder("").iterdir()
    return sorted(path.name for path in found if (path / INDEX).is_file() or (path / DERIVED).is_file())


def shipped_folder(name: str) -> Path:
    """Where the model lies inside the installed package."""
    return Path(str(files("m2m"))) / "weights" / name


def _place(name: str, hub: Mapping[str, Any]) -> Path:
    if name in shipped_models():
        return shipped_folder(name)
    if Path(name).exists():
        return Path(name)
    if not _is_hub_id(name):
        raise UserError(f"model '{name}' does not exist: no such folder, and not one of {', '.join(shipped_models())}")
    return _download(name, hub)


def _derivation(file: Path, hub: Mapping[str, Any]) -> Derivation:
    """What the file says, its base found. A base that is derived itself is refused: chains of files would break."""
    content = read_json(file)
    if not isinstance(content, dict) or {key: type(value) for key, value in content.items()} != FIELDS:
        wanted = ", ".join(f"{key} ({kind.__name__})" for key, kind in FIELDS.items())
        raise UserError(f"'{file}' must hold these and nothing else: {wanted}")
    base = content["base"]
    of_base = {key: value for key, value in hub.items() if key != "revision"}  # it names one of the derived model
    try:
        place = _place(str(file.parent / base) if base.startswith(".") else base, of_base)
    except UserError as error:
        raise UserError(f"'{file}': its base is not there: {error}") from error
    if not (place / INDEX).is_file():
        raise UserError(f"'{file}': its base '{base}' is no complete pipeline: '{place}' holds no {INDEX}")
    return Derivation(ModelFolder(base, place), content["base_sha256"], content["pipeline"])


def _is_hub_id(name: str) -> bool:
    """`owner/model`: exactly one slash, nothing that only a path has, and no model or folder that is here."""
    if name in shipped_models() or Path(name).exists():
        return False
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _download(name: str, hub: Mapping[str, Any]) -> Path:
    """The hub repository's files in the local cache. A second call needs no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, **hub))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        reason = first_line(error)
        raise UserError(f"model '{name}' is no folder, and the hub did not give it: {reason}") from error
