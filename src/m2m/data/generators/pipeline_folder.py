"""A text-to-image pipeline on the disk: finding its folder, what it may hold, and a hash of its weights.

A folder may come from anywhere, so only safetensors are read, and a folder with code of its own is refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, sha256_of_files
from m2m.hub import check_not_removed
from m2m.types import UserError, first_line

INDEX = "model_index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# Parts that no picture needs: the safety checker runs beside the pipeline (`safety.py`), on any pipeline's pictures.
LEFT_OUT = ("safety_checker", "feature_extractor")
# A dot within the stem marks a variant: model.fp16.safetensors, model.fp16-00001-of-00002.safetensors.
PLAIN_NAME = re.compile(r"[^.]+\.safetensors")
NEEDED = {"prompt", "height", "width", "generator", "output_type"}


def find_folder(name: str) -> Path:
    """The local folder of a pipeline: itself, or what the hub gives for an id, in the local cache. Raises UserError."""
    folder = Path(name).expanduser()  # the shell expands no "~" within "diffusers:~/models"
    if not folder.exists() and _could_be_hub_id(name):
        folder = _download(name)
    if not folder.is_dir():
        raise UserError(
            f"generator '{name}' does not exist: give a folder in diffusers layout, or a hub id owner/model"
        )
    if not (folder / INDEX).is_file():
        raise UserError(
            f"generator '{name}' is no pipeline of diffusers: '{folder}' holds no {INDEX}; give a folder that has one"
        )
    return folder


def pipeline_class(folder: Path, name: str) -> Any:
    """The class of diffusers that the folder names. Raises UserError unless it paints pictures from a text alone."""
    import diffusers

    found = _index(folder).get("_class_name")
    if isinstance(found, list) or any(folder.glob("*.py")) or any(folder.glob("*/*.py")):
        raise UserError(
            f"generator '{name}' brings code of its own, which is not run; name a pipeline of diffusers alone"
        )
    kind: Any = getattr(diffusers, str(found), None)
    is_pipeline = isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)
    if not is_pipeline or not _paints_from_text(kind):
        raise UserError(
            f"generator '{name}' is a {found}, which is no text-to-image pipeline of diffusers; name another"
        )
    if kind._load_connected_pipes:
        raise UserError(f"generator '{name}' is a {found}, one of several pipelines that only work together")
    return kind


def parts_of(folder: Path) -> list[str]:
    """Names of the pipeline's parts that are loaded: unet, vae, text_encoder, ..."""
    return [key for key, value in _entries(folder).items() if value[0] is not None and key not in LEFT_OUT]


def absent_parts(folder: Path) -> list[str]:
    """Names of the parts that the pipeline may have and that are not loaded: its index says null, or we say so."""
    return [*(key for key, value in _entries(folder).items() if value[0] is None), *LEFT_OUT]


def variant_of(folder: Path) -> str | None:
    """The variant ("fp16") to load where a part has weights of no other; the plain files win where there are both."""
    for part in parts_of(folder):
        names = sorted(path.name for path in (folder / part).glob("*.safetensors"))
        if names and not any(PLAIN_NAME.fullmatch(file) for file in names):
            return names[0].split(".")[1].split("-")[0]
    return None


def weight_files(folder: Path, name: str) -> dict[str, list[Path]]:
    """The safetensors files that are loaded, part by part. Raises UserError where a part holds pickles alone."""
    variant = variant_of(folder)
    files = {part: _weights_of(folder / part, variant, name) for part in parts_of(folder)}
    found = {part: paths for part, paths in files.items() if paths}
    if not found:
        raise UserError(f"generator '{name}' holds no weights: no *.safetensors in the folders of '{folder}'")
    return found


def weights_hash(files: dict[str, list[Path]]) -> str:
    """One sha256 over the contents of all weight files, part after part by name."""
    return sha256_of_files(path for part in sorted(files) for path in files[part])


def check_whole(parts: dict[str, Any], files: dict[str, list[Path]], name: str) -> None:
    """Raise UserError where a part has more parameters than its files hold numbers.

    The libraries only log a missing weight, and draw it at random: another one in every process.
    """
    for part, paths in files.items():
        needed = sum(parameter.numel() for parameter in parts[part].parameters())
        stored = _stored_numbers(paths)
        if stored < needed:
            raise UserError(f"generator '{name}': '{part}' needs {needed:,} weights, its files hold {stored:,}")


def _index(folder: Path) -> dict[str, Any]:
    index = read_json(folder / INDEX)
    if not isinstance(index, dict):
        raise UserError(
            f"'{folder / INDEX}' is no description of a pipeline; save it again: pipeline.save_pretrained(DIR)"
        )
    return index


def _entries(folder: Path) -> dict[str, list[Any]]:
    """Name of a part -> [library, class]; the index holds other settings too."""
    return {key: value for key, value in _index(folder).items() if isinstance(value, list) and len(value) == 2}


def _paints_from_text(kind: Any) -> bool:
    """Whether a call takes a text and gives pictures: no picture or mask to start from, no video, no sound."""
    parameters = inspect.signature(kind.__call__).parameters
    if not set(parameters) >= NEEDED or "num_frames" in parameters:
        return False
    return "image" not in parameters or _is_listed(kind)


def _is_listed(kind: Any) -> bool:
    """Some pipelines that paint from a text can take a picture too; diffusers keeps a list of them."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    return kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()


def _weights_of(part: Path, variant: str | None, name: str) -> list[Path]:
    if not part.is_dir():
        raise UserError(f"generator '{name}' lacks the folder '{part.name}' that its {INDEX} names")
    files = sorted(part.glob("*.safetensors"))
    chosen = [path for path in files if variant and path.name.split(".")[1].split("-")[0] == variant]
    chosen = chosen or [path for path in files if PLAIN_NAME.fullmatch(path.name)]
    pickles = sorted(path.name for path in part.iterdir() if path.suffix in PICKLES)
    if pickles and not chosen:
        raise UserError(
            f"generator '{name}' has pickled weights only ('{part.name}/{pickles[0]}'), which are not loaded; "
            "save it with safetensors: pipeline.save_pretrained(DIR)"
        )
    return chosen


def _stored_numbers(paths: Sequence[Path]) -> int:
    """How many floating-point numbers the files hold, by their headers."""
    from math import prod

    from safetensors import safe_open

    count = 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            entries = [file.get_slice(key) for key in file.keys()]  # noqa: SIM118 (no mapping)
            count += sum(prod(entry.get_shape()) for entry in entries if entry.get_dtype().startswith(("F", "BF")))
    return count


def _could_be_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _download(name: str) -> Path:
    """The files that the pipeline needs, safetensors alone, in the hub's local cache."""
    check_not_removed(name, "generator", "--generator diffusers:")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(name, use_safetensors=True))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        reason = first_line(error)
        raise UserError(f"generator '{name}' is no folder, and the hub did not give it: {reason}") from error
