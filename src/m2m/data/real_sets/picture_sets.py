"""Sets of pictures that lie on the disk, as a source for the factory: what folders and COCO have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2m.data.factory.sources import SetPlan
from m2m.data.generators.protocol import Picture
from m2m.data.pictures import read_picture, to_square
from m2m.data.real_sets.files import THREADS, PictureFile
from m2m.types import UserError

BATCH = 32
KEY_BYTES = 12  # 24 hexadecimal digits, as the id of a caption


@dataclass(frozen=True)
class RealSet:
    """One set. key: follows from what it is, not from its place; meta: what its KEY.json says beside the file names."""

    key: str
    files: tuple[PictureFile, ...]
    meta: dict[str, Any]


class PictureSets:
    """A `SetSource` over files: image n of a set is its file n, the middle square, resized.

    Args:
        sets: in their order, at least one.
        size: pixels of a side.
        chosen: what led to these sets, as JSON values: the kind of source and the options that choose.
    """

    def __init__(self, sets: Sequence[RealSet], size: int, chosen: dict[str, Any]) -> None:
        if size < 1:
            raise UserError(f"size is {size}; it must be at least 1 pixel")
        self.batch = BATCH
        self.size = size
        self.chosen = chosen
        self._sets = list(sets)
        self._files = {found.key: found.files for found in self._sets}

    @property
    def most_images(self) -> int:
        """Images of the largest set."""
        return max(len(found.files) for found in self._sets)

    @property
    def pictures(self) -> int:
        """Images of all sets together."""
        return sum(len(found.files) for found in self._sets)

    def settings(self) -> dict[str, Any]:
        """The options, and the content itself: how many pictures and bytes, and a hash over names, sizes and bytes."""
        files = [file for found in self._sets for file in found.files]
        return {
            **self.chosen,
            "size": self.size,
            "pictures": len(files),
            "picture_bytes": sum(file.bytes for file in files),
            "content_sha256": self._content_hash(),
        }

    def __len__(self) -> int:
        return len(self._sets)

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        """The sets start .. stop - 1; their meta names the files."""
        return [
            SetPlan(found.key, len(found.files), {**found.meta, "files": [file.name for file in found.files]})
            for found in self._sets[start:stop]
        ]

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        """The pictures asked for, uint8 [size, size, 3]. Raises UserError where a file has changed or gone."""
        files = [self._files[plan.key][number] for plan, number in requests]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self._square, files))

    def _square(self, file: PictureFile) -> Picture:
        if not file.path.exists() or file.path.stat().st_size != file.bytes:
            raise UserError(f"'{file.path}' has changed since the pictures were looked at; run the command again")
        return np.asarray(to_square(read_picture(file.path), self.size))

    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        for found in self._sets:
            files = [(file.name, file.bytes, file.sha256) for file in found.files]
            digest.update(json.dumps([found.key, files]).encode())
        return digest.hexdigest()


def key_of(*words: object) -> str:
    """The key of a set that these words identify: 24 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(words).encode(), digest_size=KEY_BYTES).hexdigest()
