"""Files that are whole or absent, and strict loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from m2m.checkpoint import atomic_folder, atomic_write, load_module, load_tensors, read_json, save_tensors, write_json
from m2m.types import UserError


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Guards against a half-written file under the real name."""
    path = tmp_path / "value.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("{ half")
        raise RuntimeError
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    """Guards against files of the old folder that live on in the new one, and against leftovers of killed writers."""
    folder = tmp_path / "state"
    leftover = tmp_path / ".state.12345678.partial"
    leftover.mkdir()
    with atomic_folder(folder) as staged:
        (staged / "old").write_text("1")
    with atomic_folder(folder) as staged:
        (staged / "new").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """Guards against removing the only whole folder before its successor is whole."""
    folder = tmp_path / "state"
    with atomic_folder(folder) as staged:
        (staged / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(folder):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert (folder / "old").read_text() == "1"


def test_tensors_come_back_equal(tmp_path: Path) -> None:
    """Guards against lost bits, and against views and tied weights, which safetensors itself refuses."""
    base = torch.randn(4, 6)
    tensors = {"tied": base, "same": base, "view": base.t()[1:], "half": base.bfloat16()}
    save_tensors(tensors, tmp_path / "weights.safetensors")
    loaded = load_tensors(tmp_path / "weights.safetensors", expected=tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o044, "only its owner can read it"


def test_loading_is_strict(tmp_path: Path) -> None:
    """Guards against weights that stay random, or are dropped, without a word."""
    path = tmp_path / "weights.safetensors"
    save_tensors({"weight": torch.zeros(2, 2), "extra": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="missing bias; unexpected extra"):
        load_module(nn.Linear(2, 2), path)
    save_tensors({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"'weight' has shape \[2, 3\], expected \[2, 2\]"):
        load_module(nn.Linear(2, 2), path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    """Guards against a traceback from deep inside a library."""
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_tensors(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="no whole safetensors file"):
        load_tensors(path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="broken.json"):
        read_json(tmp_path / "broken.json")
