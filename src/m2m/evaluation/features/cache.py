"""Features by content: the same picture is never put through the same network twice, whatever file it came from.

One SQLite file an extractor, in write-ahead mode, so that several processes of one machine may read and write it at
once (on a network disk they may not). What a killed process had finished is there; a damaged file is told, never read.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m2m.evaluation.features.extractor import Extractor, Features
from m2m.types import UserError

APPLICATION = 0x6D326D66  # "m2mf" in the file's header: ours, and no other program's
VERSION = 1
BATCH = 64  # pictures that a killed process loses at most
KEYS = 500  # keys of one query; SQLite takes 999 at least
PATIENCE = 60.0  # seconds to wait for another process that writes

SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class FeatureCache:
    """Features of pictures, from `folder` where they are known, else from `extractor`, and then known.

    Attributes:
        extractor: what makes the features.
        path: the file, named after the extractor's identity.

    Raises:
        UserError: the file is damaged, is no feature cache, or cannot be written.
    """

    def __init__(self, folder: str | Path, extractor: Extractor) -> None:
        self.extractor = extractor
        self.path = Path(folder) / f"{extractor.identity.replace(':', '-')}.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._mended():
            self._file = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            self._open()

    def features(self, pictures: Tensor) -> Features:
        """Features of pictures uint8 [M, H, W, 3]; equal pictures are extracted once. Raises UserError as above."""
        keys = self._keys(pictures)
        with self._mended():
            known = self._read(keys)
        first = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
        places = sorted(first.values())
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            made = _rows(self.extractor.extract(pictures[part]))
            known.update(zip((keys[place] for place in part), made, strict=True))
            with self._mended():
                self._write({keys[place]: row for place, row in zip(part, made, strict=True)})
        return self._features([known[key] for key in keys])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _open(self) -> None:
        """Check that the file is ours, or make it so where it is new."""
        ((application,),) = self._file.execute("PRAGMA application_id")
        ((tables,),) = self._file.execute("SELECT count(*) FROM sqlite_master")
        if application == 0 and tables == 0:
            self._file.executescript(SCHEMA)
        ((application,),) = self._file.execute("PRAGMA application_id")
        ((version,),) = self._file.execute("PRAGMA user_version")
        if (application, version) != (APPLICATION, VERSION):
            raise UserError(f"'{self.path}' is no feature cache of version {VERSION}: name another folder")
        self._file.execute("PRAGMA journal_mode = WAL")
        # In this mode a loss of power may take the last features, and never damages the file.
        self._file.execute("PRAGMA synchronous = NORMAL")

    def _keys(self, pictures: Tensor) -> list[bytes]:
        """What a picture's features follow from: the extractor, the shape and the bytes."""
        prefix = f"{self.extractor.identity} {list(pictures.shape[1:])} ".encode()
        return [hashlib.sha256(prefix + picture.tobytes()).digest() for picture in pictures.cpu().numpy()]

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The rows that are there, by key."""
        wanted = list(dict.fromkeys(keys))
        rows = {}
        for start in range(0, len(wanted), KEYS):
            part = wanted[start : start + KEYS]
            marks = ", ".join("?" * len(part))
            found = self._file.execute(f"SELECT key, value, checksum FROM features WHERE key IN ({marks})", part)
            rows.update({key: self._checked(key, value, checksum) for key, value, checksum in found})
        return rows

    def _checked(self, key: bytes, value: bytes, checksum: int) -> np.ndarray:
        """A row's numbers; SQLite itself does not notice a bit that flipped in them."""
        if checksum != zlib.crc32(key + value) or len(value) != 4 * (self.extractor.dim + self.extractor.classes):
            raise sqlite3.DatabaseError("a row's checksum does not fit")
        return np.frombuffer(value, "<f4")

    def _write(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Add rows; those that another process was faster with stay as they are."""
        values = [(key, row.astype("<f4").tobytes()) for key, row in rows.items()]
        with self._transaction():
            self._file.executemany(
                "INSERT OR IGNORE INTO features VALUES (?, ?, ?)",
                [(key, value, zlib.crc32(key + value)) for key, value in values],
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that turns into a writer half-way fails at once instead of waiting for its turn.
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """SQLite's errors as a UserError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(f"feature cache '{self.path}' cannot be read or written: {error}") from error
        except sqlite3.DatabaseError as error:
            remedy = "delete it, its features are then made again"
            raise UserError(f"'{self.path}' is damaged or no feature cache ({error}): {remedy}") from error

    def _features(self, rows: Sequence[np.ndarray]) -> Features:
        dim, classes = self.extractor.dim, self.extractor.classes
        values = torch.from_numpy(np.array(rows, np.float32).reshape(-1, dim + classes))
        return Features(values[:, :dim].contiguous(), values[:, dim:].contiguous() if classes else None)


def _rows(features: Features) -> np.ndarray:
    """Embedding and logits of each picture as one row, float32 [M, D + K]."""
    parts = [features.embeddings] if features.logits is None else [features.embeddings, features.logits]
    return torch.cat(parts, dim=1).numpy()
