"""The sweep over both guidance scales: every point is made with its own, and the best one is found."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2m.checkpoint import read_json
from tests.evaluation.protocols.task_evaluation import task_pipeline
from tests.evaluation.tasks.figures import objects

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("guidance_sweep")


def test_every_point_has_images_of_its_own(sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Guards against a plot of one point again and again, and a default chosen from it."""
    task_pipeline("novel_view").save_pretrained(tmp_path / "model")
    objects(tmp_path / "shards", views=4)
    places = ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "shards"), "--out", str(tmp_path / "out")]
    small = ["--sets", "2", "--images", "2", "--steps", "1", "--context", "1,3", "--condition", "0,8"]
    sweep.main(["--protocol", "novel-view", *places, *small])
    points = read_json(tmp_path / "out" / "sweep.json")["points"]
    assert [(own["context"], own["condition"]) for own in points] == [(1, 0), (1, 8), (3, 0), (3, 8)]
    assert len({own["measures"]["PSNR (pixels)"] for own in points}) == 4
    shown = [np.asarray(Image.open(path)).tobytes() for path in sorted((tmp_path / "out").rglob("000.png"))]
    assert len(shown) == len(set(shown)) == 8
    assert Image.open(tmp_path / "out" / "sweep.png").width > 500
    assert "| PSNR (pixels) |" in capsys.readouterr().out


def test_the_best_point_is_the_lowest_where_lower_is_better(sweep: Any) -> None:
    """Guards against the worst distance chosen as the default."""
    points = [sweep.Point(1, n, {"PSNR": n, "error": n}, {}, {"PSNR": "higher", "error": "lower"}) for n in (2, 5, 3)]
    assert sweep.best(points, "PSNR").condition == 5 and sweep.best(points, "error").condition == 2
