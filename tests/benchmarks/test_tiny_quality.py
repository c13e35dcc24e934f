"""The benchmark of quality as it is called, on a tiny random pipeline and a random probe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.tiny_quality import parse, run
from m2m.data.worlds import World
from m2m.types import UserError
from tests.evaluation.truth.random_probe import random_probe
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("quality")
    tiny_pipeline("self").save_pretrained(folder / "model")
    random_probe(World.load("mini").attributes).save_pretrained(folder / "probe")
    return [
        f"--model={folder / 'model'}",
        f"--probe={folder / 'probe'}",
        "--sets=2",
        "--steps=1",
        "--device=cpu",
        "--probe-images=8",
    ]


def test_it_compares_a_model_with_its_baselines(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against rows that are missing or exchanged: copies must be copies, renderings their own reference."""
    run(parse([*places, f"--out={tmp_path / 'out'}", "--grid-rows=1"]))
    found = json.loads((tmp_path / "out" / "quality.json").read_text())["quality"]
    kinds = [label.split(", ")[-1].split("/")[-1] for label in found]
    assert kinds == ["model", "unconditional", "rendered and autoencoded", "copy the last given", "rendered"]
    assert found["copy the last given"]["near_copies"] == [1.0, 1.0]
    assert {ratio for ratio in found["rendered"]["freedom"].values() if ratio is not None} <= {1.0}
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "quality.md").read_text() and printed.count("\n|") >= 12
    for kind in ("first", "worst"):
        (grid,) = (tmp_path / "out").glob(f"*model-{kind}.png")
        assert Image.open(grid).width > 12 * 96


def test_it_sweeps_guidance(places: list[str], tmp_path: Path) -> None:
    """Guards against a sweep that samples at one scale alone."""
    run(parse([*places, f"--out={tmp_path}", "--sweep-guidance=1,4"]))
    rows = json.loads((tmp_path / "quality.json").read_text())["quality"]
    assert [label.split("guidance ")[1] for label in rows if "guidance" in label] == ["1", "4"]


def test_a_probe_of_another_world_is_refused(tmp_path: Path) -> None:
    """Guards against readings that point into another world's values."""
    random_probe({**World.load("mini").attributes, "count": [1, 2]}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="another world"):
        run(parse([f"--probe={tmp_path}", "--sets=1"]))
