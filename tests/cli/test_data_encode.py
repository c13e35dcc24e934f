"""`m2m data encode`: the pipeline's own latents in shards, and each way to name an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2m.checkpoint import read_json
from m2m.cli.main import main
from m2m.cli.parts import weights_hash
from m2m.data.pictures import images_from_pixels
from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.worlds import World
from m2m.loading import load_pipeline
from m2m.model.encoders import build_encoder
from m2m.model_folder import find_model
from m2m.pipeline import M2MPipeline
from tests.data.reading.toy_shards import full_sets, toy_picture, write_folder, write_pictures
from tests.tiny import tiny_pipeline

ORDERED = ReadConfig(ordered=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline of 64 pixels with a random autoencoder."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """5 sets of 3 pictures of 8 pixels; one of them is oblong."""
    return write_folder(tmp_path / "pictures", full_sets(5, 3), per_shard=3, sizes={"set003": (24, 16)})


def run(*arguments: str | Path) -> int:
    return main(["data", "encode", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of a call that must not work."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("m2m: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


def of_pipeline(pipe: M2MPipeline, images: Sequence[np.ndarray]) -> np.ndarray:
    """What the pipeline's own encoding gives, in half precision."""
    return pipe.encode([Image.fromarray(image) for image in images]).detach().half().numpy()


def test_latents_are_the_pipelines_own(pictures: Path, model: Path, tmp_path: Path) -> None:
    """Unscaled latents, another crop, or a draw from the posterior: training and sampling would see two spaces."""
    assert run(pictures, "--model", model, "--out", tmp_path / "latents", "--batch", "3") == 0
    pipe = load_pipeline(find_model(str(model)), "cpu")
    latents = ImageSetDataset(tmp_path / "latents", ORDERED)
    for index in (0, 1, 2, 4):
        one, stored = latents[index], ImageSetDataset(pictures, ORDERED)[index]
        assert one.latents is not None and one.latents.shape == (3, 4, 8, 8) and one.features is None
        assert stored.images is not None
        assert np.array_equal(one.latents, of_pipeline(pipe, list(stored.images)))
    settings = read_json(tmp_path / "latents" / "manifest.json")["settings"]
    assert settings["encoders"] == {"latents": weights_hash(model / "vae"), "features": None}
    assert settings["source"]["source"] == "toy" and settings["dtype"] == "float32" and settings["size"] == 64


def test_oblong_pictures_are_cropped_as_the_pipeline_does(pictures: Path, model: Path, tmp_path: Path) -> None:
    """Squeezed pictures are what no model is asked to make."""
    assert run(pictures, "--model", model, "--out", tmp_path / "latents") == 0
    pipe = load_pipeline(find_model(str(model)), "cpu")
    one = ImageSetDataset(tmp_path / "latents", ORDERED)[3]
    images = [toy_picture("set003", 0), toy_picture("set003", 1), toy_picture("set003", 2, (24, 16))]
    expected = of_pipeline(pipe, images)
    assert one.latents is not None
    assert np.abs(one.latents.astype(np.float32) - expected).max() <= 2e-3 * np.abs(expected).max()


def test_features_are_the_encoders_own(tmp_path: Path, model: Path) -> None:
    """Features of pixels in another range are plausible numbers, and wrong."""
    pictures = write_folder(tmp_path / "pictures", full_sets(2, 2))
    assert run(pictures, "--model", model, "--features", "efficientnet-lite0", "--out", tmp_path / "latents") == 0
    one = ImageSetDataset(tmp_path / "latents", ORDERED)[1]
    stored = ImageSetDataset(pictures, ReadConfig(ordered=True))[1]
    assert one.features is not None and one.features.shape == (2, 49, 1280) and stored.images is not None
    pipe = load_pipeline(find_model(str(model)), "cpu")
    pixels = torch.cat([pipe._pixels(Image.fromarray(image)) for image in stored.images])
    expected = build_encoder("efficientnet-lite0").encode(pixels[None])[0].half().numpy()
    assert np.allclose(one.features.astype(np.float32), expected, atol=2e-3)
    settings = read_json(tmp_path / "latents" / "manifest.json")["settings"]
    assert settings["encoders"]["features"].startswith("efficientnet-lite0 ")


def test_an_autoencoder_alone_takes_pictures_as_they_are(model: Path, tmp_path: Path) -> None:
    """Resized without being asked, small pictures would be encoded as blurred large ones."""
    pictures = write_folder(tmp_path / "pictures", full_sets(2, 2))
    assert run(pictures, "--autoencoder", model / "vae", "--out", tmp_path / "latents") == 0
    one = ImageSetDataset(tmp_path / "latents", ORDERED)[0]
    assert one.latents is not None and one.latents.shape == (2, 4, 1, 1)
    assert run(pictures, "--autoencoder", model / "vae", "--size", "16", "--out", tmp_path / "larger") == 0
    larger = ImageSetDataset(tmp_path / "larger", ORDERED)[0]
    assert larger.latents is not None and larger.latents.shape == (2, 4, 2, 2)


def test_the_shipped_model_restores_what_it_encoded(tmp_path: Path) -> None:
    """End to end on real weights: pictures to shards to latents and back to the same pictures."""
    world = World.load("mini")
    (caption,) = world.captions("train", 1, seed=0)
    images = [world.render(caption.text, seed, size=64) for seed in range(3)]
    folder = write_pictures(tmp_path / "pictures", {"set000": images})
    assert run(folder, "--model", "tiny-self", "--out", tmp_path / "latents") == 0
    one = ImageSetDataset(tmp_path / "latents", ORDERED)[0]
    assert one.latents is not None
    pipe = load_pipeline(find_model("tiny-self"), "cpu")
    with torch.no_grad():
        restored = images_from_pixels(pipe.decode(torch.from_numpy(one.latents).float()))
    error = np.abs(np.stack([np.asarray(image) for image in restored]).astype(int) - np.stack(images))
    assert error.mean() < 10


def test_the_same_command_again_makes_nothing(
    pictures: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says what was done, so that a script's log can be read."""
    arguments = (pictures, "--model", model, "--out", tmp_path / "latents")
    assert run(*arguments) == 0
    assert "2 of 2 shards are encoded, 2 of them new" in capsys.readouterr().out
    assert run(*arguments) == 0
    assert "2 of 2 shards are encoded, 0 of them new" in capsys.readouterr().out


def test_a_damaged_shard_ends_with_1_and_is_named(
    pictures: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that goes on to training must see that something is missing."""
    path = pictures / "shard-000001-000-025.tar"
    path.write_bytes(path.read_bytes()[:-512])
    assert run(pictures, "--model", model, "--out", tmp_path / "latents") == 1
    captured = capsys.readouterr()
    assert str(path) in captured.err and "1 of 2 shards are encoded" in captured.err and captured.out == ""


def test_wrong_calls_are_one_line(
    pictures: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each names the option to mend."""
    out = ("--out", tmp_path / "latents")
    vae = ("--autoencoder", model / "vae")
    assert "either --model" in refused(capsys, pictures, *out)
    assert "either --model" in refused(capsys, pictures, "--model", model, *vae, *out)
    assert "dtype 'int8'" in refused(capsys, pictures, *vae, "--dtype", "int8", *out)
    assert "multiple of 8" in refused(capsys, pictures, *vae, "--size", "20", *out)
    assert "no vision encoder 'dinov9'" in refused(capsys, pictures, *vae, "--features", "dinov9", *out)
    assert "does not exist" in refused(capsys, tmp_path / "nowhere", *vae, *out)
    assert "set 'set003', image 2" in refused(capsys, pictures, *vae, *out)
    assert "dtype is 'float32', not 'bfloat16'" in refused(capsys, pictures, *vae, "--dtype", "bfloat16", *out)
