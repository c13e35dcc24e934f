"""The sprite archive: 1,042 subjects x 6 artists, one zip a family in assets/, decoded only when first used."""

from __future__ import annotations

import io
import threading
import zipfile
from functools import cache, lru_cache

from PIL import Image

from m2m.data.worlds.vocabulary import ASSETS

SIDE = 64  # pixels; the longer side of every drawing fills it
_READING = threading.Lock()  # a ZipFile has one file position


@cache
def _archive(family: str) -> zipfile.ZipFile:
    # Read whole (2 MB): the file stays closed, so processes forked by a data loader share no file position.
    return zipfile.ZipFile(io.BytesIO((ASSETS / f"{family}.zip").read_bytes()))


@lru_cache(maxsize=8192)  # 16 kB each: the whole archive fits, 100 MB; mini uses 1.5 MB of it
def sprite(family: str, key: str) -> Image.Image:
    """Return one drawing, RGBA, SIDE x SIDE, straight alpha. Do not change it: it is shared."""
    with _READING:
        data = _archive(family).read(f"{key}.webp")
    return Image.open(io.BytesIO(data)).convert("RGBA")


def families() -> tuple[str, ...]:
    """The families in the archive."""
    return tuple(sorted(path.stem for path in ASSETS.glob("*.zip")))
