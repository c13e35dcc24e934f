"""Pictures to latents and tokens: what the pipeline makes of them, and what `m2m data encode` stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2m.cli.data.set_encoder import TorchSetEncoder
from m2m.data.factory.encode import EncodeSettings, encode_shards
from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.shard_files import ShardFolder
from m2m.pipeline import M2MPipeline
from m2m.training.encoding import SetEncoder
from tests.data.reading.toy_shards import write_pictures
from tests.tiny import CONTEXT_DIM, TOKENS, pictures, tiny_pipeline

SETS, IMAGES = 2, 3


@pytest.fixture(scope="module")
def pipe() -> M2MPipeline:
    """Pictures of 64 pixels, latents [4, 8, 8], tokens [5, 24]."""
    return tiny_pipeline("dino")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """uint8 [B, N, 64, 64, 3]."""
    arrays = np.stack([np.asarray(picture) for picture in pictures(SETS * IMAGES)])
    return torch.from_numpy(arrays).unflatten(0, (SETS, IMAGES))


def as_pictures(images: torch.Tensor) -> Sequence[Image.Image]:
    return [Image.fromarray(image.numpy()) for image in images.flatten(0, 1)]


def test_latents_and_tokens_are_the_pipelines_own(pipe: M2MPipeline, images: torch.Tensor) -> None:
    """A draw from the posterior, a forgotten scale or sets that slipped: training and sampling would see two spaces."""
    encoder = SetEncoder(pipe.vae, pipe.vision_encoder, batch=4)
    latents, tokens = encoder.latents(images), encoder.tokens(images)
    assert latents.shape == (SETS, IMAGES, 4, 8, 8) and tokens.shape == (SETS, IMAGES, TOKENS, CONTEXT_DIM)
    torch.testing.assert_close(latents.flatten(0, 1), pipe.encode(as_pictures(images)), atol=1e-5, rtol=0)
    own = pipe._tokens(torch.cat([pipe._pixels(picture) for picture in as_pictures(images)]))
    torch.testing.assert_close(tokens.flatten(0, 1), own, atol=1e-5, rtol=0)
    own = pipe._tokens(pipe.decode(latents.flatten(0, 1)))
    torch.testing.assert_close(encoder.tokens_of_latents(latents).flatten(0, 1), own, atol=1e-5, rtol=0)


def test_they_are_what_is_stored(pipe: M2MPipeline, images: torch.Tensor, tmp_path: Path) -> None:
    """A model that is trained on pictures must be the one that is trained on their shards of latents."""
    pipe.vae.save_pretrained(tmp_path / "vae")
    folder = write_pictures(tmp_path / "pictures", {f"set{i:03d}": list(images[i].numpy()) for i in range(SETS)})
    stored = TorchSetEncoder(tmp_path / "vae", size=64, resize=False)
    encode_shards(ShardFolder(folder), stored, EncodeSettings(tmp_path / "latents", threads=1))
    data = ImageSetDataset(tmp_path / "latents", ReadConfig(ordered=True))
    found = SetEncoder(pipe.vae).latents(images)
    for index in range(SETS):
        one = data[index].latents
        assert one is not None and np.array_equal(one, found[index].half().numpy())


def test_autocast_and_gradients_stay_outside(pipe: M2MPipeline, images: torch.Tensor) -> None:
    """The loss runs under autocast: in bfloat16 the latents would not be those that are stored."""
    encoder = SetEncoder(pipe.vae, pipe.vision_encoder)
    plain = [encoder.latents(images), encoder.tokens(images)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = [encoder.latents(images), encoder.tokens(images), encoder.tokens_of_latents(plain[0])]
    assert all(torch.equal(one, other) for one, other in zip(plain, under, strict=False))
    assert all(tensor.dtype == torch.float32 and not tensor.requires_grad for tensor in under)


def test_large_pictures_are_encoded_in_small_batches(pipe: M2MPipeline) -> None:
    """32 pictures of 512 pixels at once, in float32, are more than a card of 24 GB holds."""
    seen: list[int] = []
    hooks = [
        part.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
        for part in (pipe.vae.encoder, pipe.vae.decoder)
    ]
    encoder = SetEncoder(pipe.vae, pipe.vision_encoder)
    for side, expected in ((512, [4, 1]), (256, [5])):
        latents = encoder.latents(torch.zeros(1, 5, side, side, 3, dtype=torch.uint8))
        encoder.tokens_of_latents(latents)
        assert seen == 2 * expected
        seen.clear()
    encoder.latents(torch.zeros(3, 11, 16, 16, 3, dtype=torch.uint8))
    assert seen == [32, 1]
    for hook in hooks:
        hook.remove()


def test_what_it_can_do_is_known_before(pipe: M2MPipeline) -> None:
    """A rollout of M2M-DINO that finds no autoencoder fails in the middle of a run."""
    assert SetEncoder(pipe.vae, pipe.vision_encoder).decodes
    assert not any(encoder.decodes for encoder in (SetEncoder(), SetEncoder(pipe.vae), SetEncoder(None, pipe.vae)))
