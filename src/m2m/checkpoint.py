"""Files that are either whole or absent, and tensors that are loaded strictly.

A file or folder is written under a temporary name beside its place, flushed to the disk (fsync) and renamed. A process
that is killed in between leaves the former file as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.types import UserError

if TYPE_CHECKING:
    import torch

STAGING_SUFFIX = ".partial"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write; on a clean exit it is flushed and renamed to `path`, on an error removed."""
    destination = Path(path)
    temporary = _staging_name(destination)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, destination)
        sync(destination.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder to fill; on a clean exit its files are fsync'd and it is renamed to `path`.

    A folder that already has that name is moved aside first and removed after, for a folder cannot be renamed over
    another; give checkpoints a name of their own each, so that no moment exists without a whole one.
    """
    destination = Path(path)
    _remove_leftovers(destination)
    temporary = _staging_name(destination)
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _swap_in(temporary, destination)
        sync(destination.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON atomically; NaN and infinity are refused, for other readers cannot read them."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises UserError where it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"'{path}' does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as JSON: {error}") from error


def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors (any device, any stride) to one safetensors file, atomically."""
    from safetensors.torch import save_file

    # Clones: safetensors refuses tensors that share memory, which tied or sliced parameters do.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(plain, temporary, metadata=dict(metadata) if metadata else None)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def load_tensors(path: str | Path, expected: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """Read a safetensors file to CPU tensors. `expected`: the names it must hold, no fewer and no more.

    Raises UserError for a missing or broken file and for every missing or unexpected name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"weights file '{path}' does not exist")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights file '{path}' is no whole safetensors file: {error}") from error
    if expected is not None:
        check_names(tensors, expected, str(path))
    return tensors


def load_module(module: torch.nn.Module, path: str | Path) -> None:
    """Load a safetensors file into `module`, strictly: exactly its names and shapes, or a UserError."""
    own = module.state_dict()
    tensors = load_tensors(path, expected=own)
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise UserError(f"'{path}': '{name}' has shape {list(tensor.shape)}, expected {list(own[name].shape)}")
    module.load_state_dict(tensors, strict=True)


def check_names(found: Iterable[str], expected: Iterable[str], where: str) -> None:
    """Raise UserError that lists what is missing and what is too much, if anything is."""
    found_names, expected_names = set(found), set(expected)
    problems = []
    if missing := expected_names - found_names:
        problems.append(f"missing {_shortened(missing)}")
    if unexpected := found_names - expected_names:
        problems.append(f"unexpected {_shortened(unexpected)}")
    if problems:
        raise UserError(f"'{where}' does not fit: " + "; ".join(problems))


def sha256_of_files(paths: Iterable[str | Path]) -> str:
    """One hex sha256 over the contents of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _shortened(names: Iterable[str], limit: int = 8) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + rest


def _staging_name(destination: Path) -> Path:
    destination.parent.mkdir(parents=True, exist_ok=True)
    return destination.parent / f".{destination.name}.{uuid.uuid4().hex[:8]}{STAGING_SUFFIX}"


def _remove_leftovers(destination: Path) -> None:
    """Remove what killed writers of this folder left behind."""
    for leftover in destination.parent.glob(f".{destination.name}.*{STAGING_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap_in(temporary: Path, destination: Path) -> None:
    if not destination.exists():
        os.rename(temporary, destination)
        return
    aside = _staging_name(destination)
    os.rename(destination, aside)
    os.rename(temporary, destination)
    shutil.rmtree(aside)


def sync(path: Path) -> None:
    """Flush a file to the disk, or a folder, so that renames in it survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            sync(Path(root) / name)
        sync(Path(root))
