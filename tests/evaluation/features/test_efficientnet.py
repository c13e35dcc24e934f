"""EfficientNet-Lite0 as an extractor: the package's own network gives the same features and classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from m2m.data.worlds import World
from m2m.evaluation.features.efficientnet import EfficientNetExtractor
from m2m.model.efficientnet import unfused_lite0
from tests.evaluation.features.drawings import drawings


@pytest.fixture(scope="module")
def extractor() -> EfficientNetExtractor:
    return EfficientNetExtractor()


def test_features_and_classes_are_those_of_the_package(extractor: EfficientNetExtractor) -> None:
    """Guards against features before the last activation, a classifier of other weights, and other normalisation."""
    pictures = drawings(3, size=224)
    found = extractor.extract(pictures)
    pixels, network = (pictures.permute(0, 3, 1, 2).float() - 127) / 128, unfused_lite0()
    with torch.no_grad():
        features, logits = network.extract_features(pixels).mean((2, 3)), network(pixels)
    assert found.logits is not None
    assert found.embeddings.shape == (3, extractor.dim) and found.logits.shape == (3, extractor.classes)
    torch.testing.assert_close(found.embeddings, features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.logits, logits, rtol=1e-3, atol=1e-4)


def test_small_pictures_are_resized_as_pillow_does(extractor: EfficientNetExtractor) -> None:
    """Guards against the nearest pixel (0.70 to 0.87 here), and against a network that is given 64 pixels."""
    pictures = drawings(3)
    large = [Image.fromarray(own).resize((224, 224), Image.Resampling.BICUBIC) for own in pictures.numpy()]
    wanted = extractor.extract(torch.from_numpy(np.stack([np.array(own) for own in large]))).embeddings
    # Pillow rounds to whole levels, which the network sees in smooth areas: 0.98.
    assert F.cosine_similarity(extractor.extract(pictures).embeddings, wanted).min() > 0.97


@pytest.mark.parametrize(("subject", "label"), [("drum", 541), ("violin", 889)])
def test_what_is_drawn_is_recognised(extractor: EfficientNetExtractor, subject: str, label: int) -> None:
    """Guards against channels in the wrong order or a wrong range: features of something, and of nothing seen."""
    image = World.load("full").render(f"a {subject} on plain white, shaded style", seed=1, size=224)
    logits = extractor.extract(torch.from_numpy(image)[None]).logits
    assert logits is not None and int(logits[0].argmax()) == label


def test_the_identity_is_that_of_weights_and_preprocessing(extractor: EfficientNetExtractor) -> None:
    """Guards against an identity by chance, with which nothing cached is ever found again."""
    assert extractor.identity == EfficientNetExtractor().identity
    assert extractor.identity.startswith("efficientnet-lite0:")
