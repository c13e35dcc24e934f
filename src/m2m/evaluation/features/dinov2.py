"""DINOv2 as an extractor: for Frechet distances that agree with people (Stein et al. 2023), and for DINO-I."""

from __future__ import annotations

from torch import Tensor

from m2m.data.pictures import to_pixels
from m2m.evaluation.features.extractor import BatchedExtractor, Features, fingerprint, place_of
from m2m.model.encoders import IMAGENET_MEAN, IMAGENET_STD, DinoV2Encoder

HUB_IDS = {size: f"facebook/dinov2-{size}" for size in ("small", "base", "large", "giant")}


class DinoV2Extractor(BatchedExtractor):
    """Embeddings: the class token after the last norm, [M, D]; base: 768, large: 1024, giant: 1536.

    The whole picture is resized to 224 x 224 and nothing cut off, as for FD-DINOv2; on the square pictures of a set the
    processor of the hub would see the middle 87% of each side.

    Raises:
        UserError: `which` is no size and no folder of a Dinov2Model in transformers layout, or its weights do not fit.
    """

    def __init__(self, which: str, device: str = "cpu") -> None:
        self.name = f"dinov2:{which}"
        self._device = device
        self._encoder = DinoV2Encoder.from_hub(place_of(self.name, which, HUB_IDS)).float().to(device)
        self.dim = self._encoder.dim
        preprocessing = ("bicubic", self._encoder.config.image_size, IMAGENET_MEAN, IMAGENET_STD)
        self.identity = f"dinov2:{fingerprint(self._encoder.network, *preprocessing)}"

    def extract_batch(self, pictures: Tensor) -> Features:
        pixels = to_pixels(pictures.to(self._device))  # [M, 3, H, W]
        return Features(self._encoder.encode(pixels[None])[0, :, 0])  # [M, D]
