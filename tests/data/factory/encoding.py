"""An encoder small enough for tests, and encoding with it in a process of its own. Loads no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.data.factory.encode import EncodeReport, EncodeSettings, encode_shards
from m2m.data.reading.shard_files import ShardFolder
from m2m.types import UserError
from tests.data.reading.toy_shards import SIZE

ROOT = Path(__file__).parents[3]


class Averages:
    """A real, small encoder: means of 4x4 pixels as latents, of the whole picture as features.

    wait: seconds for each batch, so that a kill strikes at work. encoded: how many pictures were.
    """

    def __init__(self, name: str = "averages", batch: int = 6, wait: float = 0.0, features: bool = True) -> None:
        self.batch = batch
        self.encoded = 0
        self._name, self._wait, self._features = name, wait, features

    def settings(self) -> dict[str, Any]:
        return {"encoders": {"latents": self._name, "features": "means" if self._features else None}, "size": SIZE}

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        if picture.size != (SIZE, SIZE):
            raise UserError(f"it has {picture.width}x{picture.height} pixels")
        return np.asarray(picture)

    def encode(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        assert len(pictures) <= self.batch
        time.sleep(self._wait)
        self.encoded += len(pictures)
        arrays = {"latents": latents_of(pictures)}
        if self._features:
            arrays["features"] = pictures.mean(axis=(1, 2), keepdims=True)[:, 0].astype(np.float16)
        return arrays


def latents_of(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
    """[M, H, W, 3] -> [M, 3, H/4, W/4] in [-1, 1]."""
    parts = pictures.reshape(len(pictures), SIZE // 4, 4, SIZE // 4, 4, 3)
    return (parts.mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float16)


def encode(source: Path | str, out: Path, encoder: Averages | None = None, **more: Any) -> EncodeReport:
    return encode_shards(ShardFolder(source), encoder or Averages(), EncodeSettings(out, threads=2), **more)


def start_python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process that runs `code`, with this tree to import from. options: of Popen."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def start_encode(pictures: Path, out: Path, wait: float) -> subprocess.Popen[str]:
    """The same encoding as `encode` in a process of its own, slowed down."""
    code = (
        "import sys; from pathlib import Path; from tests.data.factory.encoding import Averages, encode\n"
        "encode(Path(sys.argv[1]), Path(sys.argv[2]), Averages(wait=float(sys.argv[3])))"
    )
    return start_python(code, pictures, out, wait)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until it holds, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.005)
