"""What `m2m train` puts together: pictures at the model's own size, whatever size they are stored at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from m2m.cli.train_outline import outline_of
from m2m.cli.train_parts import at_own_size, build_pipeline, encoder_of, open_training_sets, training_checks
from m2m.pipeline import M2MPipeline
from m2m.training.image_sets import TrainConfig
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.tiny import tiny_autoencoder, tiny_unet_config
from tests.toy_shards import write_toy_shards

SMALL = {"sample_size": 4}  # pictures of 32 pixels; the latents of `write_toy_shards` are those of 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, latents, and pictures of two sizes."""
    folder = tmp_path_factory.mktemp("parts")
    tiny_autoencoder().save_pretrained(folder / "vae")
    write_toy_shards(folder / "latents", encoders={"latents": "", "features": None})
    write_folder(folder / "pictures", full_sets(2, 3), sizes={"set001": (40, 56)})
    return folder


def settings(place: Path, data: str, **changes: Any) -> TrainConfig:
    parts = {"autoencoder": str(place / "vae"), "unet": {**tiny_unet_config(), **SMALL}}
    return TrainConfig(data=str(place / data), batch_sets=2, images_per_set=3, **{**parts, **changes})


def pipeline(config: TrainConfig) -> M2MPipeline:
    return build_pipeline(config, open_training_sets(settings(Path(config.data).parent, "pictures")), "cpu")


def test_pictures_are_read_at_the_models_size(place: Path) -> None:
    """Bug: a model of 256 pixels that is trained on pictures of 512 as they are stored, and pictures of two sizes."""
    config = settings(place, "pictures")
    data = at_own_size(config, open_training_sets(config), pipeline(config))
    shapes = [images.shape for images in (data[0].images, data[1].images) if images is not None]
    assert shapes == [(3, 32, 32, 3)] * 2
    assert outline_of(config)[0].arrays == {"images": (3, 32, 32, 3)}


def test_latents_are_read_as_they_are(place: Path) -> None:
    """Guards against latents that are refused, or opened again, for a size that is not theirs to have."""
    config = settings(place, "latents")
    data = open_training_sets(config)
    assert at_own_size(config, data, pipeline(config)) is data and data[0].latents.shape == (3, 4, 8, 8)  # type: ignore[union-attr]


@pytest.mark.parametrize("validation", ["pictures", "latents"])
def test_validation_reads_as_training_does(place: Path, validation: str) -> None:
    """Bug: a validation loss of pictures at another size than the model sees in training."""
    config = settings(place, "pictures", validation=str(place / validation), validate_every=1)
    pipe = pipeline(config)
    seen: list[torch.Size] = []
    pipe.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[2:]))
    (check,) = training_checks(pipe, encoder_of(pipe), config)
    assert check.run(1)["loss"] > 0
    assert set(seen) == {(4, 4, 4) if validation == "pictures" else (4, 8, 8)}
