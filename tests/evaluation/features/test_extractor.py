"""What all extractors share: names, batches, fingerprints."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from m2m.evaluation.features.extractor import BatchedExtractor, Extractor, Features, find_extractor, fingerprint
from m2m.types import UserError


class Means(BatchedExtractor):
    """The mean colour, with the size of its batch as a logit."""

    name, identity, dim, classes, batch = "means", "means:1", 3, 1, 4

    def extract_batch(self, pictures: Tensor) -> Features:
        return Features(pictures.double().mean((1, 2)), torch.full((len(pictures), 1), len(pictures)))


def test_pictures_go_through_in_batches_and_come_back_in_order() -> None:
    """Guards against 40,000 pictures in one pass, a lost last batch, and results in another type."""
    pictures = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 2, 5, 3)
    found = Means().extract(pictures)
    assert isinstance(Means(), Extractor) and found.logits is not None
    assert torch.equal(found.embeddings, torch.arange(10.0)[:, None].expand(10, 3))
    assert found.embeddings.dtype == found.logits.dtype == torch.float32
    assert found.logits.flatten().tolist() == [4] * 8 + [2] * 2


def test_no_pictures_have_no_features() -> None:
    """Guards against a crash in a concatenation of nothing."""
    found = Means().extract(torch.empty(0, 8, 8, 3, dtype=torch.uint8))
    assert found.embeddings.shape == (0, 3) and found.logits is not None and found.logits.shape == (0, 1)


@pytest.mark.parametrize("pictures", [torch.rand(2, 8, 8, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
def test_what_is_no_tensor_of_pictures_is_refused(pictures: Tensor) -> None:
    """Guards against pixels in 0..1, or channels first, that give plausible features of black or striped pictures."""
    with pytest.raises(UserError, match=r"pictures uint8 \[M, H, W, 3\], these are"):
        Means().extract(pictures)


def test_a_fingerprint_follows_from_values_names_and_words() -> None:
    """Guards against stale features of a network with other weights or another preprocessing."""
    network = nn.Linear(2, 1).requires_grad_(False)
    before = fingerprint(network, "bicubic", 224)
    assert fingerprint(network, "bicubic", 224) == before and len(before) == 32
    assert fingerprint(network, "bicubic", 256) != before
    assert fingerprint(nn.Sequential(network), "bicubic", 224) != before
    assert fingerprint(network.bfloat16(), "bicubic", 224) != before
    network.float().bias += 1
    assert fingerprint(network, "bicubic", 224) != before


@pytest.mark.parametrize("name", ["inceptoin", "clip", "clip:", "dinov2:", "inception:", "gram:8", ""])
def test_unknown_names_are_answered_with_the_known_ones(name: str) -> None:
    """Guards against a KeyError, and against a download of whatever was typed."""
    with pytest.raises(UserError, match="known: inception, clip:ViT-B/32, clip:ViT-L/14.*dinov2:small.*gram") as caught:
        find_extractor(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["clip:ViT-B/16", "dinov2:huge", "clip:tests", "dinov2:/"])
def test_what_is_neither_a_size_nor_a_network_is_answered_with_the_known_ones(name: str) -> None:
    """Guards against a hub id made up from a typing error, and a random network for a folder that holds none."""
    with pytest.raises(UserError, match="is neither a folder with a config.json nor (ViT-B/32|small), "):
        find_extractor(name)
