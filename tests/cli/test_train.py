"""The way of a model as a user goes it: pictures, autoencoder, latents, training, export, generate."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from m2m.cli.main import main
from tests.cli.running import environment
from tests.tiny import tiny_scheduler, tiny_unet_config

AUTOENCODER = {
    "latent_channels": 4,
    "block_out_channels": [3, 12, 16, 16],
    "patch_size": 4,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "norm_num_groups": 4,
}
SCHEDULER = ("beta_schedule", "beta_start", "beta_end", "clip_sample", "set_alpha_to_one", "steps_offset")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, an autoencoder trained for four steps, latents and features, and a config."""
    folder = tmp_path_factory.mktemp("train")
    pictures = "world:mini:train:4"
    write_yaml(folder / "autoencoder.yaml", {"model": AUTOENCODER, "data": pictures, "batch_images": 4, "workers": 0})
    budget = ["steps=4", "warmup_steps=1", f"out={folder / 'ae'}", f"export={folder / 'ae' / 'export'}"]
    m2m("train-autoencoder", "--config", folder / "autoencoder.yaml", *budget)
    build = ["--generator", "world:mini", "--images-per-set", "5", "--out", folder / "pictures"]
    m2m("data", "captions", pictures, "--test", "0", "--out", folder / "captions")
    m2m("data", "build", "--captions", folder / "captions", *build)
    encoders = ["--autoencoder", folder / "ae" / "export", "--features", "efficientnet-lite0"]
    m2m("data", "encode", folder / "pictures", *encoders, "--out", folder / "latents")
    write_yaml(folder / "train.yaml", train_settings(folder))
    return folder


def m2m(*arguments: Any) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content))


def train_settings(folder: Path) -> dict[str, Any]:
    return {
        "data": str(folder / "latents"),
        "validation": "world:mini:validation:2",
        "variant": "self",
        "autoencoder": str(folder / "ae" / "export"),
        "vision_encoder": "efficientnet-lite0",
        "unet": tiny_unet_config(),
        "scheduler": {key: tiny_scheduler().config[key] for key in SCHEDULER},
        "objective": {"noise_draws": 2},
        "batch_sets": 2,
        "steps": 4,
        "log_every": 1,
        "workers": 0,
        "sample_steps": 1,
    }


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_train_export_generate(place: Path, tmp_path: Path, variant: str) -> None:
    """Guards against an export that `m2m generate` cannot load, of either variant."""
    out = tmp_path / "run"
    settings = [f"out={out}", f"variant={variant}", f"export={out / 'model'}", "sample_every=2"]
    m2m("train", "--config", place / "train.yaml", *settings)
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == ["step-00000004"]
    assert Image.open(out / "samples" / "samples-00000004.png").width > 8 * 64
    assert yaml.safe_load((out / "config.yaml").read_text())["objective"]["noise_draws"] == 2
    index = json.loads((out / "model" / "model_index.json").read_text())
    assert index["default_guidance_scale"] == 2.0 and (index["vision_encoder"][1] is None) == (variant == "self")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    made = tmp_path / "made"
    m2m("generate", tmp_path / "a.png", "-n", "1", "--steps", "2", "--model", out / "model", "--out", made)
    assert (made / "grid.png").exists()


def test_weights_of_an_export_are_half_size_and_readable(place: Path) -> None:
    """Guards against float32 weights in the package, and weights that only their owner may read."""
    from safetensors.torch import load_file

    path = place / "ae" / "export" / "diffusion_pytorch_model.safetensors"
    assert {str(tensor.dtype) for tensor in load_file(path).values()} == {"torch.float16"}
    assert path.stat().st_mode & 0o044
    config = json.loads((path.parent / "config.json").read_text())
    assert config["scaling_factor"] != 1.0


def test_dry_run_prints_the_resolved_config(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a dry run that trains, or prints other settings than a run would take."""
    m2m("train", "--config", place / "train.yaml", "--dry-run", "objective.noise_draws=3", f"out={place / 'dry'}")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["objective"]["noise_draws"] == 3 and printed["batch_sets"] == 2
    assert not (place / "dry").exists()


def test_sigterm_ends_behind_a_checkpoint(place: Path, tmp_path: Path) -> None:
    """Guards against a trainer that loses what it has done when its machine is taken away."""
    out = tmp_path / "run"
    arguments = [
        "train",
        "--config",
        str(place / "train.yaml"),
        f"out={out}",
        "steps=1000000",
        "checkpoint_every=1000000",
    ]
    command = [sys.executable, "-m", "m2m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3/"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 143
    stopped = re.search(r"stopped by SIGTERM at step (\d+)", rest)
    assert stopped
    step = int(stopped[1])
    assert (out / "checkpoints" / f"step-{step:08d}" / "state.json").exists()
    m2m("train", "--config", place / "train.yaml", f"out={out}", f"steps={step + 2}")
    assert (out / "checkpoints" / f"step-{step + 2:08d}" / "state.json").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["learning_rte=1"], "did you mean 'learning_rate'"),
        (["data=nowhere"], "'nowhere'"),
        (["data=world:mini:train:4", "variant=dino", "vision_encoder=nothing"], "'nothing'"),
        (["base=tiny-dino"], "base 'tiny-dino' is of variant 'dino'"),
        (["trainable=some"], "trainable 'some'"),
        (["batch_sets=5"], "5 sets a batch are wanted"),
        (["micro_batch_sets=3"], "cannot share it evenly"),
        (["tracker=tensorbord"], "tracker 'tensorbord'"),
        (["objective.context_dropout=2"], "objective.context_dropout is 2"),
        (["zero_terminal_snr=true"], "needs a model that predicts v"),
        (["autoencoder="], "give autoencoder=DIR"),
        (["variant=dino", "vision_encoder="], "needs vision_encoder"),
        (["variant=both"], "variant 'both'"),
        (["images_per_set=6"], "has 5 images, 6 are wanted"),
        (["schedule=cosin"], "schedule 'cosin'"),
        (["device=cuda:77"], "device 'cuda:77'"),
    ],
)
def test_mistakes_get_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], words: str
) -> None:
    """Guards against tracebacks for what a user can mend."""
    code = main(["train", "--config", str(place / "train.yaml"), f"out={tmp_path}", *settings])
    message = capsys.readouterr().err
    assert code == 2 and words in message and message.count("\n") == 1


def test_another_autoencoder_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against an export whose autoencoder does not speak the latents that the model was trained on."""
    other = tmp_path / "other"
    steps = ["steps=5", "warmup_steps=1", f"out={tmp_path / 'ae'}", f"export={other}"]
    m2m("train-autoencoder", "--config", place / "autoencoder.yaml", *steps)
    arguments = ["train", "--config", str(place / "train.yaml"), f"out={tmp_path / 'run'}", f"autoencoder={other}"]
    assert main(arguments) == 2
    assert "is not the one that encoded" in capsys.readouterr().err
