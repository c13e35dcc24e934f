"""`M2MPipeline.from_pretrained`: options of diffusers keep their meaning, for shipped, complete and derived models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from m2m import M2MModel, M2MPipeline, load_pipeline
from m2m.derived import write_derived
from m2m.model_folder import find_model, shipped_models
from m2m.types import UserError
from tests.test_derived import derived
from tests.tiny import pictures, tiny_pipeline

KINDS = ["complete", "derived"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`complete`, and `derived` from it with a guidance of its own."""
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline().to(torch.float16).save_pretrained(folder / "complete")
    derived(folder / "complete", folder / "derived", default_guidance_scale=2.5)
    return folder


def latents(pipe: M2MPipeline) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe(pictures(2), num_images=1, num_inference_steps=2, output_type="latent").images


def in_cache(folder: Path, cache: Path, name: str) -> None:
    """Lays a folder into a cache of the hub, as a download leaves it."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(COMMIT)


@pytest.mark.parametrize("name", ["tiny-self", "tiny-dino", *KINDS])
def test_it_gives_what_load_pipeline_gives(name: str, folders: Path) -> None:
    """Bug: two ways to load a model, and the images of one are worse."""
    place = name if name in shipped_models() else folders / name
    pipe, other = M2MPipeline.from_pretrained(place), load_pipeline(str(place), "cpu")
    assert pipe.config.default_guidance_scale == other.config.default_guidance_scale
    assert torch.equal(latents(pipe), latents(other))


@pytest.mark.parametrize(
    ("name", "window"),
    [("tiny-self", (1, "anchor")), ("tiny-dino", (1, "anchor")), ("tiny-novel-view", (None, "sliding"))],
)
def test_shipped_models_look_at_what_keeps_long_rows_from_fading(name: str, window: tuple[int | None, str]) -> None:
    """Bug: the tenth image of a row is a blot; or views that are made without the views before them."""
    config = load_pipeline(name, "cpu").config
    assert (config.default_window, config.default_window_policy) == window


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, {"model": torch.bfloat16, "default": torch.float32}])
def test_dtype_is_that_of_every_tensor(name: str, dtype: torch.dtype | dict, folders: Path) -> None:
    """Bug: a derived model whose own tensors stay in float16, or all of it in float32."""
    pipe = M2MPipeline.from_pretrained(folders / name, dtype=dtype)
    own, rest = (dtype["model"], dtype["default"]) if isinstance(dtype, dict) else (dtype, dtype)
    assert {tensor.dtype for tensor in pipe.model.state_dict().values()} == {own}
    assert {tensor.dtype for tensor in pipe.vae.state_dict().values()} == {rest}


@pytest.mark.parametrize("name", KINDS)
def test_parts_and_settings_can_be_given(name: str, folders: Path) -> None:
    """Bug: a derived model that takes its base's scheduler or its own guidance where the caller names another."""
    other = M2MPipeline.from_pretrained(folders / name)
    scheduler = DDPMScheduler.from_config(other.scheduler.config)
    given = {"scheduler": scheduler, "vae": other.vae, "model": other.model, "default_guidance_scale": 1.5}
    pipe = M2MPipeline.from_pretrained(folders / name, **given)
    assert (pipe.scheduler, pipe.vae, pipe.model) == (scheduler, other.vae, other.model)
    assert pipe.config.default_guidance_scale == 1.5


@pytest.mark.parametrize("name", KINDS)
def test_it_can_be_saved_whole_and_by_variant(name: str, folders: Path, tmp_path: Path) -> None:
    """Bug: a derived model that is saved without its base's tensors, and a variant that is not read."""
    pipe = M2MPipeline.from_pretrained(folders / name)
    pipe.save_pretrained(tmp_path, variant="own")
    again = M2MPipeline.from_pretrained(tmp_path, variant="own", local_files_only=True)
    assert again.config.default_guidance_scale == pipe.config.default_guidance_scale
    assert torch.equal(latents(again), latents(pipe))
    part = M2MModel.from_pretrained(tmp_path, subfolder="model", variant="own")
    assert part.condition == pipe.model.condition
    with pytest.raises(OSError, match=r"diffusion_pytorch_model"):
        M2MPipeline.from_pretrained(tmp_path)


def test_an_own_component_is_read_as_those_of_the_base(tmp_path: Path) -> None:
    """Bug: a vision encoder of the derived model that stays in float32, is not read by variant, or cannot be given."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    write_derived(tiny_pipeline("dino"), find_model(str(tmp_path / "base")), tmp_path / "dino")
    plain = M2MPipeline.from_pretrained(tmp_path / "dino", dtype={"vision_encoder": torch.float16})
    assert plain.vision_encoder.dtype == torch.float16 and plain.model.dtype == plain.vae.dtype == torch.float32
    other = M2MPipeline.from_pretrained(tmp_path / "dino").vision_encoder
    with torch.no_grad():
        first = next(other.parameters()).add_(1)
    other.save_pretrained(tmp_path / "dino/vision_encoder", variant="more")
    more = M2MPipeline.from_pretrained(tmp_path / "dino", variant="more")
    assert torch.equal(next(more.vision_encoder.parameters()), first)
    assert M2MPipeline.from_pretrained(tmp_path / "dino", vision_encoder=other).vision_encoder is other


def test_a_variant_of_the_base_is_read_for_a_derived_model(tmp_path: Path) -> None:
    """Bug: the shared tensors of another variant than was asked for. The plain files hold other weights."""
    base = tmp_path / "base"
    tiny_pipeline().to(torch.float16).save_pretrained(base)
    model = M2MModel.from_pretrained(base, subfolder="model")
    with torch.no_grad():
        model.unet.conv_in.bias.add_(1)
    model.save_pretrained(base / "model", variant="more")
    derived(base, tmp_path / "task")
    plain = M2MPipeline.from_pretrained(tmp_path / "task")
    more = M2MPipeline.from_pretrained(tmp_path / "task", variant="more")
    assert torch.equal(more.model.unet.conv_in.bias, plain.model.unet.conv_in.bias + 1)


@pytest.mark.parametrize("name", KINDS)
def test_a_hub_id_is_read_from_the_cache(name: str, folders: Path, tmp_path: Path) -> None:
    """Bug: a derived model that was downloaded and is refused for want of an index; `cache_dir` that is ignored."""
    in_cache(folders / name, tmp_path, "somebody/model")
    if name == "derived":
        relative = tmp_path / "models--somebody--model/snapshots/complete"  # derived.json says "../complete"
        shutil.copytree(folders / "complete", relative)
    pipe = M2MPipeline.from_pretrained("somebody/model", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(latents(pipe), latents(M2MPipeline.from_pretrained(folders / name)))
    with pytest.raises((OSError, ValueError)):
        M2MPipeline.from_pretrained("somebody/other", cache_dir=tmp_path, local_files_only=True)


def test_what_is_no_model_is_one_line(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: twenty lines of the hub's client for a typo; a derived model that is dispatched without its own tensors."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'tiny-sefl' does not exist: no such folder, and not one of tiny-dino, tiny-"):
        M2MPipeline.from_pretrained("tiny-sefl")
    with pytest.raises(UserError, match="is no saved pipeline"):
        M2MPipeline.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="device_map is not for .*a derived model: load it without"):
        M2MPipeline.from_pretrained(folders / "derived", device_map="balanced")


def test_a_shipped_name_wins_over_a_folder(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a folder called tiny-self, as a run may leave it, that is loaded in the place of the shipped model."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders / "complete", "tiny-self")
    shipped, own = M2MPipeline.from_pretrained("tiny-self"), M2MPipeline.from_pretrained("./tiny-self")
    assert shipped.config.default_guidance_scale == 4 and own.config.default_guidance_scale == 7.5
