"""DINOv2 as an extractor, on a tiny random one in transformers layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from m2m.evaluation.features.dinov2 import HUB_IDS, DinoV2Extractor
from m2m.model.encoders import IMAGENET_MEAN, IMAGENET_STD
from tests.evaluation.features.drawings import drawings


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dinov2Model]:
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14)
    model = Dinov2Model(config).eval()
    folder = tmp_path_factory.mktemp("dinov2")
    model.save_pretrained(folder)
    return folder, model


def test_the_embedding_is_transformers_class_token(network: tuple[Path, Dinov2Model]) -> None:
    """Guards against the mean of the patches, the token before the last norm, and a crop that cuts a subject off."""
    folder, model = network
    pictures = drawings(3, size=90)
    extractor = DinoV2Extractor(str(folder))
    processor = BitImageProcessorPil(
        size={"height": 224, "width": 224}, do_center_crop=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    pixels = processor(list(pictures.numpy()), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = model(pixel_values=pixels).pooler_output
    found = extractor.extract(pictures)
    assert found.logits is None and found.embeddings.shape == (3, extractor.dim) == (3, 24)
    assert (found.embeddings - wanted).abs().max() < 0.02


def test_other_weights_have_another_identity(network: tuple[Path, Dinov2Model], tmp_path: Path) -> None:
    """Guards against features of one network served for another of the same shape, and against paths in identities."""
    folder, model = network
    model.save_pretrained(tmp_path / "same")
    changed = Dinov2Model(model.config)
    changed.save_pretrained(tmp_path / "other")
    own = DinoV2Extractor(str(folder))
    assert own.name == f"dinov2:{folder}"
    assert DinoV2Extractor(str(tmp_path / "same")).identity == own.identity
    assert DinoV2Extractor(str(tmp_path / "other")).identity != own.identity


def test_the_names_are_those_of_the_hub() -> None:
    """Guards against DINOv2 with registers, or version 1, under the same short name."""
    assert HUB_IDS["giant"] == "facebook/dinov2-giant" and list(HUB_IDS) == ["small", "base", "large", "giant"]
