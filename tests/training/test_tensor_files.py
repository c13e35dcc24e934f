"""Safetensors files written one tensor at a time: the library must read them, and damage must show."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from m2m.training.tensor_files import DTYPES, Form, in_file_order, open_tensors, seal_of, shapes_of, write_tensors
from m2m.types import UserError


def forms(tensors: dict[str, Tensor]) -> dict[str, Form]:
    return {name: Form(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    write_tensors(path, forms(tensors), iter(tensors[name] for name in in_file_order(forms(tensors))))
    return path


def every_kind() -> dict[str, Tensor]:
    """Each type, in sizes that are no multiple of eight bytes; a scalar, an empty one, one that lies crosswise."""
    generator = torch.Generator().manual_seed(0)
    tensors = {str(dtype): (torch.rand(3, 5, generator=generator) * 100).to(dtype) for dtype in DTYPES}
    crosswise = torch.randn(4, 6, generator=generator).t()
    return {**tensors, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "crosswise": crosswise}


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    """Guards against wrong offsets, types or strides, which a reader of our own could share."""
    tensors = every_kind()
    read = load_file(write(tmp_path / "ours.safetensors", tensors))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype, name
    assert shapes_of(tmp_path / "ours.safetensors") == {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_library_writes_the_same_bytes(tmp_path: Path) -> None:
    """Guards against tensors that start between two words, which some readers cannot map into memory."""
    tensors = {"b": torch.arange(7, dtype=torch.uint8), "a": torch.randn(3), "c": torch.randn(2, 2).bfloat16()}
    save_file(tensors, tmp_path / "theirs.safetensors")
    ours = write(tmp_path / "ours.safetensors", tensors).read_bytes()
    assert ours == (tmp_path / "theirs.safetensors").read_bytes()


def test_one_tensor_is_held_at_a_time(tmp_path: Path) -> None:
    """Guards against a writer that collects all tensors first: beside a large model there is no room for a second."""
    made: list[weakref.ref[Tensor]] = []
    most = 0

    def tensors() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(10):
            tensor = torch.zeros(100)
            made.append(weakref.ref(tensor))
            most = max(most, sum(reference() is not None for reference in made))
            yield tensor

    write_tensors(tmp_path / "ours.safetensors", {f"{i}": Form(torch.float32, (100,)) for i in range(10)}, tensors())
    assert len(made) == 10 and most <= 2


def test_a_tensor_that_was_not_announced(tmp_path: Path) -> None:
    """Guards against a file whose header belongs to other tensors."""
    with pytest.raises(ValueError, match="'a' is"):
        write_tensors(tmp_path / "x", {"a": Form(torch.float32, (2,))}, iter([torch.zeros(3)]))


def test_the_seal_says_what_lies_on_the_disk(tmp_path: Path) -> None:
    """Guards against a checksum that is the writer's word for itself, and one that a flipped bit does not change."""
    tensors = every_kind()
    path = tmp_path / "ours.safetensors"
    seal = write_tensors(path, forms(tensors), iter(tensors[name] for name in in_file_order(forms(tensors))))
    assert seal_of(path) == seal and seal.size == path.stat().st_size
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert seal_of(path).size == seal.size and seal_of(path).crc32 != seal.crc32


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    """Guards against the library's own error, which names no file."""
    (tmp_path / "half").write_bytes(write(tmp_path / "whole", every_kind()).read_bytes()[:300])
    for name, words in [("half", "no whole safetensors file"), ("none", "does not exist")]:
        with pytest.raises(UserError, match=f"{name}' .*{words}|{name}' {words}"), open_tensors(tmp_path / name):
            pass
