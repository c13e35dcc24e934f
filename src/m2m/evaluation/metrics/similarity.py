"""Similarities of images to texts and of images to images: 100 x cosine of features (Hessel et al. 2021; section 8.4).

Where features are NaN (an image is missing) the similarity is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def text_image(embeddings: Tensor, text: Tensor) -> Tensor:
    """Text-Image CLIP of M images, each with its caption: [M, D], [M, D] -> [M]. Not clamped at 0, as some do."""
    if embeddings.shape != text.shape:
        raise ValueError(f"images {list(embeddings.shape)} and captions {list(text.shape)} do not match")
    return 100 * (normalize(embeddings, dim=-1) * normalize(text, dim=-1)).sum(-1)


def image_image(generated: Tensor, given: Tensor) -> Tensor:
    """Image-Image CLIP: mean over all given images of 100 x cosine: [S, N, D], [S, G, D] -> [S, N]."""
    if generated.shape[0] != given.shape[0] or generated.shape[2] != given.shape[2]:
        raise ValueError(f"generated {list(generated.shape)} and given {list(given.shape)} are not of the same sets")
    return 100 * (normalize(generated, dim=-1) @ normalize(given, dim=-1).mT).mean(-1)


def pairwise_diversity(features: Tensor) -> Tensor:
    """Mean over the pairs of a set's images of 100 x (1 - cosine): [S, N, D] -> [S]; NaN for a single image.

    0: all alike. Some is right: what the caption leaves free differs in a good set.
    """
    return diversity_so_far(features)[:, -1]


def diversity_so_far(features: Tensor) -> Tensor:
    """Pairwise diversity of the first n images of a set, for every n: [S, N, D] -> [S, N]; the first column is NaN."""
    units = normalize(features, dim=-1)
    apart = 1 - units @ units.mT  # [S, N, N]
    # Sums of the rows below the diagonal; a missing image is NaN in its row, and in those behind it.
    sums = apart.tril(-1).sum(-1).cumsum(-1)
    images = torch.arange(1, features.shape[1] + 1, device=features.device)
    return 100 * sums / (images * (images - 1) / 2)
