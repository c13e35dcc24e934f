"""`m2m train-autoencoder` as a user calls it: from a world's name to a folder that pipelines load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from m2m.cli.main import main
from m2m.cli.parts import load_autoencoder
from tests.toy_shards import write_toy_shards

MODEL = {"latent_channels": 4, "block_out_channels": [3, 12, 16, 16], "patch_size": 4, "norm_num_groups": 4}
SETTINGS = {
    "model": MODEL,
    "data": "world:mini:train:5",
    "validation": "world:mini:validation:3",
    "size": 16,
    "batch_images": 3,
    "workers": 0,
    "steps": 2,
    "warmup_steps": 1,
    "sample_every": 2,
    "tracker": "none",
    "threads": 1,
}


def run(folder: Path, *overrides: Any) -> int:
    config = folder / "autoencoder.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    return main(["train-autoencoder", "--config", str(config), f"out={folder / 'run'}", *overrides])


def test_a_run_trains_shows_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that needs a folder of pictures first, or exports what no pipeline can load."""
    assert run(tmp_path, f"export={tmp_path / 'export'}") == 0
    assert "autoencoder: " in capsys.readouterr().out
    assert 0.01 < load_autoencoder(tmp_path / "export").config.scaling_factor < 100
    assert (tmp_path / "run" / "samples" / "reconstructions-00000002.png").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dat=world:mini:train:5", "did you mean 'data'"),
        ("data=world:mini:train", "world:NAME:SPLIT:COUNT"),
        ("data=nowhere", "data folder 'nowhere' does not exist"),
        ("workers=-1", "workers is -1"),
        ("size=8", "paints 16 to 512 pixels"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str) -> None:
    """A typing mistake that is ignored, or answered by a traceback."""
    assert run(tmp_path, setting) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1, printed.err


def test_latents_are_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shards of latents that are taken for pictures of four channels."""
    latents = write_toy_shards(tmp_path / "latents")
    assert run(tmp_path, f"data={latents}", "size=0") == 2
    assert "holds latents; an autoencoder trains on pictures" in capsys.readouterr().err
