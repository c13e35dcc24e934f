"""Small shards for tests: real pictures, real files, foreign tars, and changes to their bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from m2m.data.shards import TRAILER, ShardRecord, ShardWriter, image_suffix, shard_name

Entries = list[tuple[str, bytes]]
IMAGES = (0, 3)
NAME = shard_name(0, IMAGES)


def picture(seed: int, size: int = 8, image_format: str = "webp") -> bytes:
    """A picture of noise."""
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, {"webp": "WEBP", "png": "PNG", "jpg": "JPEG"}[image_format], lossless=True)
    return buffer.getvalue()


def one_set(number: int, images: tuple[int, int] = IMAGES) -> Entries:
    """The entries of one set, its description last."""
    key = f"{number:04x}-set"
    pictures = [(f"{key}.{image_suffix(n, 'webp')}", picture(100 * number + n)) for n in range(*images)]
    return [*pictures, (f"{key}.json", json.dumps({"caption": f"picture {number}"}).encode())]


def units_of(sets: int = 3) -> list[Entries]:
    """Units that end within sets: two entries each, as a batch that does not divide the set leaves them."""
    entries = [entry for number in range(sets) for entry in one_set(number)]
    return [entries[start : start + 2] for start in range(0, len(entries), 2)]


def open_writer(folder: Path, units: Sequence[Entries]) -> ShardWriter:
    return ShardWriter.open(folder, NAME, 0, IMAGES, len(units))


def complete(folder: Path, units: Sequence[Entries]) -> ShardRecord:
    """Start or resume the shard and finish it."""
    with open_writer(folder, units) as writer:
        for unit in units[writer.committed :]:
            writer.append(unit)
        return writer.finish()


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lay(folder: Path, files: dict[str, bytes]) -> None:
    """Make these the only files of the folder."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def committed(folder: Path, units: Sequence[Entries] | None = None) -> int:
    """How many units a new writer finds safe."""
    with open_writer(folder, units or units_of()) as writer:
        return writer.committed


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(bytes(content))


def foreign_tar(
    path: Path, infos: Sequence[tuple[tarfile.TarInfo, bytes]], tar_format: int = tarfile.USTAR_FORMAT
) -> Path:
    """A tar as another program writes it; its end is made that of our shards, so that only the entries are at fault."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for info, payload in infos:
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
        end = tar.offset
    path.write_bytes(buffer.getvalue()[:end] + TRAILER)
    return path
