"""Safetensors files that are written and read one tensor at a time, so that no second copy of a model is ever held.

The format: the length of the header (8 bytes, little-endian), the header (JSON: name -> dtype, shape, first and last
byte), then the tensors' bytes without gaps. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import torch
from torch import Tensor

from m2m.types import UserError

if TYPE_CHECKING:
    from safetensors import safe_open

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
BLOCK = 1 << 24  # bytes read at once


class Form(NamedTuple):
    """What a file says of a tensor before its bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Seal:
    """By what a file is known to be whole: its size in bytes, and the CRC-32 of its bytes."""

    size: int
    crc32: int


def in_file_order(forms: Mapping[str, Form]) -> list[str]:
    """The names in the order in which a file holds them: wide numbers first, so that each tensor is aligned."""
    return sorted(forms, key=lambda name: (-forms[name].dtype.itemsize, name))


def write_tensors(path: str | Path, forms: Mapping[str, Form], tensors: Iterator[Tensor]) -> Seal:
    """Write a new file of named tensors, on the CPU, taken from the iterator in the order of `in_file_order`.

    Takes as many as `forms` has, and holds one at a time. Raises OSError, for instance if the disk is full.
    """
    with open(path, "xb") as file:
        writer = _Sealed(file)
        writer.write(_header(forms))
        for name, tensor in zip(in_file_order(forms), islice(tensors, len(forms)), strict=True):
            if (tensor.dtype, tuple(tensor.shape)) != forms[name]:
                raise ValueError(f"'{name}' is {tensor.dtype} {list(tensor.shape)}, announced as {forms[name]}")
            writer.write(tensor_bytes(tensor))
    return writer.seal


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a CPU tensor, row by row."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def seal_of(path: str | Path) -> Seal:
    """The seal of a file as it lies on the disk."""
    size = crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return Seal(size, crc)


@contextmanager
def open_tensors(path: str | Path) -> Iterator[safe_open]:
    """A safetensors file to take tensors from by name. Raises UserError where it is missing or broken."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"'{path}' does not exist")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is no whole safetensors file: {error}") from error
    with file:
        yield file


def shapes_of(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a file and their shapes, without reading them. Raises UserError as `open_tensors`."""
    with open_tensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping


class _Sealed:
    """Writes to a file and keeps count of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seal = Seal(0, 0)

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.seal = Seal(self.seal.size + len(data), zlib.crc32(data, self.seal.crc32))


def _header(forms: Mapping[str, Form]) -> bytes:
    entries, start = {}, 0
    for name in in_file_order(forms):
        dtype, shape = forms[name]
        end = start + dtype.itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
