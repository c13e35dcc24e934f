"""InceptionV3 as FID and IS have used it since 2017, through the package torch-fidelity.

The package needs torchvision, so it belongs on GPU machines and is never installed by default. Where this was
written neither was to be had: but for the error of a missing package, nothing in this file has been run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2m.checkpoint import sha256_of_files
from m2m.evaluation.features.extractor import BatchedExtractor, Features
from m2m.types import UserError

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"
URL_SHA256 = "6726825d"  # its first digits, as torch hub names files
INSTALL = "pip install 'm2m-diffusion[inception]', with the torchvision of your torch"


class InceptionExtractor(BatchedExtractor):
    """Embeddings: "2048", the last pooled features; logits: "logits_unbiased" of 1008 classes, as the scores need.

    Pictures are resized to 299 x 299 by the package itself, as TensorFlow 1 did it. `weights`: the package's .pth file;
    empty: it is fetched once into torch hub's folder.

    Raises:
        UserError: the package is missing or broken, or the weights cannot be had.
    """

    dim, classes = 2048, 1008

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.name = f"inception:{weights}" if weights else "inception"
        self._device = device
        network = _network_class()
        path = Path(weights) if weights else _fetched()
        if not path.is_file():
            raise UserError(f"extractor '{self.name}': weights file '{path}' does not exist")
        # By path: the package then reads it with torch.load, which takes tensors alone; on its own it would fetch the
        # file through torch hub, which takes anything.
        self._network = network("inception", ["2048", "logits_unbiased"], str(path)).to(device)
        self.identity = f"inception:{sha256_of_files([path])[:32]}"

    def extract_batch(self, pictures: Tensor) -> Features:
        images = pictures.to(self._device).movedim(-1, 1).contiguous()  # uint8 [M, 3, H, W]
        embeddings, logits = self._network(images)  # [M, 2048], [M, 1008]
        return Features(embeddings, logits)


def _network_class() -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that is not of this torch
        raise UserError(f"extractor 'inception' needs torch-fidelity: {INSTALL}") from error
    return FeatureExtractorInceptionV3


def _fetched() -> Path:
    """The weights in torch hub's folder, fetched first where they are missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=URL_SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(f"extractor 'inception': '{URL}' cannot be fetched: {error}") from error
    return path
