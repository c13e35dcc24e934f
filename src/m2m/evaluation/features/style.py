"""Statistics of a picture's style as embeddings: of its colours, and of its texture. Where things are says nothing.

Both are centred on the mean over some drawings of the full tiny world, so that the cosine of two unrelated pictures is
about 0 and not 0.99. Measured on 4 pictures of each of 10 subjects in every style, with free counts and backgrounds:

    mini world      same style, other subject   other style, same subject   neither
    colour          31                          4                           -1
    gram            45                          -7                          -10

Photographs lie to one side of drawings, so unrelated ones are above 0: compare with shuffled contexts.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.data.pictures import to_pixels
from m2m.data.worlds import World
from m2m.evaluation.features.extractor import BatchedExtractor, Features, fingerprint
from m2m.model.efficientnet import early_features
from m2m.model.encoders import EfficientNetLite0Encoder

REFERENCES = 64  # drawings whose mean is the origin; four times as many change a similarity by 2 points
LEVELS = 9  # of lightness and of chroma
LARGEST_CHROMA = 0.3  # of Oklab; sRGB ends at 0.32
LEAST_SPREAD = 0.02  # of a bin; bins that no reference fills would count without end
GRAM_SIZE = 128  # pixels; textures of other sizes are brought to it
GRAM_BLOCKS = 2  # of EfficientNet-Lite0: 24 channels at a quarter of the size


class StyleExtractor(BatchedExtractor):
    """Statistics, less their mean over the reference drawings."""

    batch = 8  # a picture of 512 pixels has 19 MB of histogram

    def __init__(self, name: str, weights: str, device: str) -> None:
        self.name = name
        self._device = device
        drawings = reference_drawings()
        self.identity = f"{name}:{fingerprint(drawings.numpy().tobytes(), weights)}"
        with torch.no_grad():
            references = torch.cat([self.statistics(part.to(device)) for part in drawings.split(self.batch)])
        self._centre = references.mean(0)
        self._scale = self.scale_of(references)
        self.dim = references.shape[1]

    @abstractmethod
    def statistics(self, pictures: Tensor) -> Tensor:
        """Statistics [M, D] of pictures uint8 [M, H, W, 3]."""

    def scale_of(self, references: Tensor) -> Tensor:
        """What the statistics are divided by, once they are centred; by default nothing."""
        return torch.ones_like(references[0])

    def extract_batch(self, pictures: Tensor) -> Features:
        return Features((self.statistics(pictures.to(self._device)) - self._centre) / self._scale)


class ColourStyle(StyleExtractor):
    """How light and how saturated the colours are: a histogram of lightness x chroma (Oklab), 81 bins.

    Roots of the shares, whose products are the Bhattacharyya coefficient, each in deviations of the references. The hue
    is left out: in a set with a free background it is the background's.
    """

    def __init__(self, device: str = "cpu") -> None:
        settings = (LEVELS, LARGEST_CHROMA, LEAST_SPREAD)
        super().__init__("colour", f"oklab {settings}", device)

    def statistics(self, pictures: Tensor) -> Tensor:
        lab = oklab(pictures).flatten(1, 2)  # [M, P, 3]
        lightness = _memberships(lab[..., 0], 1.0)  # [M, P, 9]
        chroma = _memberships(lab[..., 1:].norm(dim=-1), LARGEST_CHROMA)  # [M, P, 9]
        shares = lightness.transpose(1, 2) @ chroma / lab.shape[1]  # [M, 9, 9]
        return shares.flatten(1).clamp_min(0).sqrt()  # [M, 81]

    def scale_of(self, references: Tensor) -> Tensor:
        return references.std(0) + LEAST_SPREAD


class GramStyle(StyleExtractor):
    """Which textures there are: the Gram matrix of early features of EfficientNet-Lite0, its lower half, 300 numbers.

    Each channel is centred over the picture first (Gatys et al. 2016 do not): a plain Gram matrix is mostly the product
    of the channels' means, and those are the background's colour.

    Raises:
        UserError: the package with the weights is missing, or holds another file.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._encoder = EfficientNetLite0Encoder(image_size=GRAM_SIZE).to(device)
        super().__init__("gram", fingerprint(self._encoder.network, GRAM_SIZE, GRAM_BLOCKS), device)

    def statistics(self, pictures: Tensor) -> Tensor:
        normalised = self._encoder.preprocess(to_pixels(pictures))  # [M, 3, 128, 128]
        maps = early_features(self._encoder.network, normalised, GRAM_BLOCKS)[1].flatten(2)  # [M, 24, 32 * 32]
        maps = maps - maps.mean(2, keepdim=True)
        gram = maps @ maps.transpose(1, 2) / maps.shape[2]  # [M, 24, 24]
        rows, columns = torch.tril_indices(*gram.shape[1:], device=gram.device)
        return gram[:, rows, columns]  # [M, 300]


@cache
def reference_drawings() -> Tensor:
    """64 drawings of the full world that may be trained on, in all styles: uint8 [64, 64, 64, 3]."""
    world = World.load("full")
    captions = world.captions("train", REFERENCES, seed=0)
    return torch.from_numpy(np.stack([world.render(caption, seed) for seed, caption in enumerate(captions)]))


def oklab(pictures: Tensor) -> Tensor:
    """sRGB, uint8 [..., 3] -> lightness 0..1 and the two opponent axes, float32 [..., 3] (Ottosson 2020)."""
    encoded = pictures.float() / 255
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = (linear @ _TO_CONES.to(linear).T).clamp_min(0) ** (1 / 3)
    return cones @ _TO_LAB.to(linear).T


def _memberships(values: Tensor, largest: float) -> Tensor:
    """[M, P] -> shares of the two nearest of the levels 0 .. `largest`, [M, P, LEVELS]; steps would be noise."""
    position = (values / largest).clamp(0, 1) * (LEVELS - 1)
    levels = torch.arange(LEVELS, device=values.device)
    return F.relu(1 - (position[..., None] - levels).abs())


_TO_CONES = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
