"""The benchmark of the objective's options as it is called: two arms of a tiny random model, a few steps each."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from benchmarks.objective_ablation import ARMS, main, passes
from m2m.checkpoint import read_json
from m2m.cli.main import main as m2m
from m2m.config import load_config
from m2m.training.image_sets import TrainConfig
from m2m.training.state import checkpoints
from tests.tiny import tiny_unet_config
from tests.training.plan.outlines import SMALLEST

TRUNK = 2  # steps


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config on pictures of the world, and a trunk of two steps."""
    folder = tmp_path_factory.mktemp("ablation")
    settings = {
        "data": "world:mini:train:8",
        "autoencoder": str(files("m2m") / "weights" / "tiny-self" / "vae"),
        "out": str(folder / "trunk"),
        "unet": {**tiny_unet_config(), **SMALLEST, "in_channels": 8, "out_channels": 8},
        "objective": {"noise_draws": 2},
        "batch_sets": 1,
        "images_per_set": 3,
        "steps": TRUNK,
        "schedule": "constant",
        "warmup_steps": 1,
        "workers": 0,
        "tracker": "none",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert m2m(["train", "--config", str(folder / "config.yaml")]) == 0
    return folder


def ablate(place: Path, *options: str) -> None:
    places = [f"--trunk={place / 'trunk'}", f"--config={place / 'config.yaml'}", f"--out={place / 'out'}"]
    sizes = ["--steps=3", "--sets=2", "--images=5", "--denoising=1"]
    main([*places, *sizes, *options])


def test_arms_get_equal_budgets_and_are_trained_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against arms that train from nothing, on other budgets or with the options of another, or all once more
    for a table; and against figures that are not there."""
    ablate(place, "--arms=noise_draws 1")
    weights = place / "out" / "noise_draws-1" / "model" / "model" / "diffusion_pytorch_model.safetensors"
    trained = weights.stat().st_mtime_ns
    capsys.readouterr()
    ablate(place, "--arms=rollout 0.25,noise_draws 1")
    assert weights.stat().st_mtime_ns == trained
    # A set costs 3 * 2 + 2 passes, and with one draw 3 + 2.
    for arm, steps, key, value in (("noise_draws-1", 5, "noise_draws", 1), ("rollout-0.25", 3, "rollout_steps", 4)):
        state = read_json(checkpoints(place / "out" / arm / "run")[-1] / "state.json")
        assert state["step"] == TRUNK + steps and state["config"]["objective"][key] == value
    rows = json.loads((place / "out" / "ablation.json").read_text())["rows"]
    assert [(row["arm"], row["steps"]) for row in rows] == [("rollout 0.25", 3), ("noise_draws 1", 5)]
    assert all(len(row["right"]) == len(row["near_copies"]) == 5 for row in rows)
    assert all(0 <= value <= 100 for row in rows for value in (*row["right"], *row["near_copies"]))
    printed = capsys.readouterr().out
    assert printed == (place / "out" / "ablation.md").read_text() and "| rollout 0.25 | 3 |" in printed


def test_budgets_are_counted_in_passes() -> None:
    """Bug: rollouts, or sets of another length, that cost nothing in an ablation at equal budgets."""

    def cost(arm: str) -> float:
        return passes(load_config(TrainConfig, None, ["data=x", "images_per_set=4", *ARMS[arm]]))

    assert cost("baseline") == 4 + 3
    assert cost("random set length") == pytest.approx((3 + 5 + 7) / 3)
    # A quarter of the steps sample one image: 4 passes that read, 1 or 2 that write, all without gradient.
    assert cost("rollout 0.25") == pytest.approx(7 + (4 + 1.5) / 4 / 3)
    assert min(cost(arm) for arm in ARMS) >= 5
