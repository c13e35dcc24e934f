"""EfficientNet-Lite0 as an extractor: true ImageNet features and classes with nothing downloaded.

It sees what a picture shows and hardly its style: two subjects in one style are as far apart as any two.
"""

from __future__ import annotations

from torch import Tensor

from m2m.data.pictures import to_pixels
from m2m.evaluation.features.extractor import BatchedExtractor, Features, fingerprint
from m2m.model.efficientnet import lite0_classifier
from m2m.model.encoders import LITE_MEAN, LITE_STD, EfficientNetLite0Encoder


class EfficientNetExtractor(BatchedExtractor):
    """Embeddings: the mean of the 7x7 features before the classifier, [M, 1280], 0 to 6; logits of 1000 classes.

    The whole picture is resized to 224 x 224. Some 20 ms a picture on one core.

    Raises:
        UserError: the package with the weights is missing, or holds another file.
    """

    dim, classes = EfficientNetLite0Encoder.dim, 1000
    batch = 8  # 32 leave the cache of a CPU, a quarter slower

    def __init__(self, device: str = "cpu") -> None:
        self.name = "efficientnet-lite0"
        self._device = device
        self._encoder = EfficientNetLite0Encoder().to(device)
        self._classifier = lite0_classifier().to(device)
        weights = fingerprint(self._encoder.network), fingerprint(self._classifier)
        self.identity = f"{self.name}:{fingerprint(b'', *weights, 'bicubic', 224, LITE_MEAN, LITE_STD)}"

    def extract_batch(self, pictures: Tensor) -> Features:
        pixels = to_pixels(pictures.to(self._device))  # [M, 3, H, W]
        pooled = self._encoder.encode(pixels[None])[0].mean(1)  # [M, 1280]
        return Features(pooled, self._classifier(pooled))
