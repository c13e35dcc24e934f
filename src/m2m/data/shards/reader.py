"""Reading a shard by its record, set by set, and opening what lies in it. Nothing is trusted, extracted or unpickled.

A set is read by a seek to its bytes, and its sha256 is compared before anything in them is looked at. So a damaged or
exchanged shard is an error that names the set, never a set that is missing or other than it was.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from m2m.data.pictures import MAX_PIXELS, to_rgb
from m2m.data.shards.locations import open_regular
from m2m.data.shards.names import ShardError, shown, split_entry
from m2m.data.shards.records import SampleRecord, ShardRecord
from m2m.data.shards.tar import TRAILER, grouped, members

# What a picture begins with -> its reader. Not `Image.open`, which prints a warning of its own about large pictures.
PICTURES: dict[bytes, Callable[[io.BytesIO], Image.Image]] = {
    b"RIFF": WebPImageFile,
    b"\x89PNG": PngImageFile,
    b"\xff\xd8": JpegImageFile,
}
MAX_AXES = 8


class ShardReader:
    """The sets of one shard, by number. Safe to use from several threads at once, and after a fork.

    path: the tar file, under any name; record: what is known of it, from `read_record`.
    Opening raises ShardError where the file is missing, has another size than the record states, or has no proper end.
    """

    def __init__(self, path: str | Path, record: ShardRecord) -> None:
        self.path = Path(path)
        self.record = record
        self._file = open_regular(path)
        try:
            self._check_size()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self.record.samples)

    def read(self, i: int) -> dict[str, bytes]:
        """The entries of set number `i`: suffix -> payload, as {"000.webp": ..., "json": ...}, in the file's order.

        Raises ShardError, which names the shard and the set, where the bytes are not those of the record or hold
        anything but plain entries of this set.
        """
        sample = self.record.samples[i]
        where = f"'{self.path}', set '{sample.key}'"
        raw = self._bytes(sample, where)
        if hashlib.sha256(raw).hexdigest() != sample.sha256:
            raise ShardError(f"{where}: the bytes are damaged (their sha256 is not the record's)")
        groups = list(grouped(members(io.BytesIO(raw), len(raw), where), self.record.images, where))
        if [key for key, _ in groups] != [sample.key]:
            raise ShardError(f"{where}: the bytes hold {shown([key for key, _ in groups])} instead")
        return {split_entry(entry.name)[1]: raw[entry.offset : entry.offset + entry.size] for entry in groups[0][1]}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bytes(self, sample: SampleRecord, where: str) -> bytes:
        # pread, not seek and read: threads and forked processes share the file's position.
        try:
            return os.pread(self._file.fileno(), sample.length, sample.offset)
        except OSError as error:  # a disk that fails
            raise ShardError(f"{where}: cannot be read: {error.strerror}") from error

    def _check_size(self) -> None:
        size = self._file.seek(0, 2)
        if size != self.record.bytes:
            raise ShardError(
                f"'{self.path}' has {size} bytes, its record states {self.record.bytes}: cut off or damaged"
            )
        if os.pread(self._file.fileno(), len(TRAILER), size - len(TRAILER)) != TRAILER:
            raise ShardError(f"'{self.path}' does not end as a shard does (1024 zero bytes); it is damaged")


def open_picture(payload: bytes, where: str) -> Image.Image:
    """The picture of an entry, decoded, in mode RGB. `where` names the entry in errors, as "'x.tar', ab12.000.webp".

    Raises ShardError unless it is one whole WebP, PNG or JPEG picture of at most 64 megapixels (checked before it is
    decoded).
    """
    reader = next((kind for magic, kind in PICTURES.items() if payload.startswith(magic)), None)
    if reader is None:
        raise ShardError(f"{where} is no WebP, PNG or JPEG picture")
    try:
        image = reader(io.BytesIO(payload))
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 megapixels, where a header takes memory
        raise ShardError(f"{where} has more than {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # a header that starts well and goes on badly
        raise ShardError(f"{where} is a broken picture: {shown(error)}") from error
    if image.width * image.height > MAX_PIXELS:
        raise ShardError(
            f"{where} has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} megapixels"
        )
    return _decoded(image, where)


def open_array(payload: bytes, where: str) -> NDArray[Any]:
    """The array of a .npy entry; floating point and whole numbers only. Raises ShardError for anything else.

    The size that the header claims is compared with the bytes that are there before any memory is taken for it.
    """
    stream = io.BytesIO(payload)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, fortran, dtype = read_header(stream)
    except Exception as error:  # ValueError, KeyError, SyntaxError, tokenize.TokenError, ...
        raise ShardError(f"{where} is no .npy array: {shown(error)}") from error
    size = len(payload) - stream.tell()
    if dtype.kind not in "fiu" or fortran:
        raise ShardError(f"{where} is an array of {shown(dtype)}; numbers in C order are right")
    if not 1 <= len(shape) <= MAX_AXES or min(shape) < 1 or math.prod(shape) * dtype.itemsize != size:
        raise ShardError(f"{where} claims the shape {shown(shape)}, which its {size} bytes do not fill")
    return np.frombuffer(payload, dtype, offset=stream.tell()).reshape(shape).copy()


def _decoded(image: Image.Image, where: str) -> Image.Image:
    try:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise ShardError(f"{where} holds {frames} pictures (an animation)")
        image.load()
        return to_rgb(image)
    except ShardError:
        raise
    except Exception as error:  # Pillow's decoders raise all sorts: OSError, SyntaxError, struct.error, IndexError, ...
        raise ShardError(f"{where} is a broken {image.format} picture: {shown(error)}") from error
