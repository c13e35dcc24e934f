"""Novel views: which rows stand beside a model, and that the asked cameras reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.checkpoint import read_json
from m2m.evaluation.candidates import Candidate
from m2m.evaluation.generation import REQUEST, GenerateConfig, generate
from m2m.evaluation.protocols.known import find_protocol
from m2m.evaluation.protocols.novel_view import nearest_first
from m2m.tasks.cameras import relative_cameras
from m2m.types import UserError
from tests.evaluation.protocols.task_evaluation import evaluated_task, task_pipeline
from tests.evaluation.tasks.figures import cameras, objects

CONFIG = GenerateConfig(images=2, steps=1, batch=2, guidance=2.0, condition_guidance=8.0)
LABELS = {
    "pose following (pixels)",
    "PSNR (pixels)",
    "SSIM (pixels)",
    "perceptual distance (efficientnet-lite0)",
    "pair colour error (pixels)",
}


def made(folder: Path, place: str) -> np.ndarray:
    """All pictures of a folder of generated images."""
    files = sorted((folder / "images" / place).rglob("*.png"))
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in files])


def test_a_model_stands_between_floors_and_ceiling(tmp_path: Path) -> None:
    """Guards against numbers that nobody can read: without the copy, the dropped camera, the model before tuning."""
    sets = objects(tmp_path / "shards", views=5, given=2, order=nearest_first)
    result = evaluated_task("novel-view", sets, tmp_path / "out", 3)
    assert {row.name: row.role for row in result.rows} == {
        "tuned": "model",
        "tuned, from the given views alone": "model",
        "tuned, 1 given": "model",
        "tuned, condition dropped": "floor",
        "base, not fine-tuned": "floor",
        "copy of the last given": "floor",
        "truth through the autoencoder of tuned": "ceiling",
    }
    assert set(result.labels) == LABELS and result.positions == (1, 2, 3) and result.axis == "generated view"
    (table,) = result.tables
    assert table.title == "tuned: what it has over others" and len(table.cells) == 5
    assert [own.title for own in result.pictures] == ["tuned: the first sets"]
    first, alone = (made(tmp_path / "out", place) for place in ("tuned-window-all", f"tuned-window-all-{ALONE}"))
    assert np.array_equal(first[::3], alone[::3]) and not np.array_equal(first, alone)
    dropped = made(tmp_path / "out", "tuned-window-all-condition-dropped-condition_guidance-0.0")
    assert not np.array_equal(first[::3], dropped[::3])


ALONE = "from-the-given-views-alone-window-2-window_policy-anchor"


def test_the_asked_cameras_reach_the_model(tmp_path: Path) -> None:
    """Guards against an evaluation that tells the model other cameras than those it is measured at, or none."""
    pipe = task_pipeline("novel_view")
    ahead, turned = (objects(tmp_path / f"{shift}", views=4, order=nearest_first, shift=shift) for shift in (0.0, 90.0))
    for name, sets in (("ahead", ahead), ("turned", turned)):
        assert generate(pipe, sets, tmp_path / "images" / name, CONFIG, "weights")
    assert np.array_equal(made(tmp_path, "ahead"), made(tmp_path, "turned")), "all cameras turned alike are the same"

    own, told = ahead[1], np.array(cameras(4), np.float32)
    given = [Image.fromarray(picture.numpy()) for picture in own.given]
    asked = relative_cameras(told[[0, *own.numbers[1:3]]])
    right, wrong = (by_hand(given, own.key, conditions) for conditions in (asked, asked[::-1].copy()))
    found = made(tmp_path, "ahead")[2:]
    assert np.abs(found - right).max() <= 1 < 4 < np.abs(found - wrong).max()


def by_hand(given: list[Image.Image], key: str, conditions: np.ndarray) -> np.ndarray:
    """What a call of the pipeline gives for these conditions."""
    pipe = task_pipeline("novel_view")
    images = pipe(
        [given],
        num_images=2,
        num_inference_steps=1,
        guidance_scale=2.0,
        condition_guidance_scale=8.0,
        set_ids=[key],
        conditions=[conditions],
    ).images[0]
    return np.stack([np.asarray(image).astype(int) for image in images])


def test_a_scale_of_the_condition_is_part_of_the_request(tmp_path: Path) -> None:
    """Guards against a sweep whose points all show the images of its first one."""
    pipe, sets = task_pipeline("novel_view"), objects(tmp_path / "shards", views=3)
    generate(pipe, sets, tmp_path / "out", CONFIG, "weights")
    assert read_json(tmp_path / "out" / REQUEST)["condition_guidance"] == 8.0
    own = pipe.config.default_condition_guidance_scale
    with pytest.raises(UserError, match=f"condition_guidance is 8.0, not {own}; name another folder"):
        generate(pipe, sets, tmp_path / "out", replace(CONFIG, condition_guidance=None), "weights")


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    """Guards against step numbers read as cameras, or a traceback of shapes."""
    with pytest.raises(UserError, match="told the position of each image.*tell it the camera"):
        generate(task_pipeline("visual_procedure"), objects(tmp_path / "shards"), tmp_path / "out", CONFIG, "weights")


def test_pictures_made_elsewhere_are_scored_too(tmp_path: Path) -> None:
    """Guards against a protocol for our models alone: views of another program, by number of the set."""
    sets = objects(tmp_path / "shards", views=3, order=nearest_first)
    for index in range(2):
        folder = tmp_path / "theirs" / f"{index:06d}"
        folder.mkdir(parents=True)
        for number, view in enumerate(sets[index].real):
            Image.fromarray(view.numpy()).save(folder / f"{number}.png")
    result = evaluated_task("novel-view", sets, tmp_path / "out", 2, Candidate("theirs", folder=tmp_path / "theirs"))
    row = next(row for row in result.rows if row.name == "theirs")
    assert row.role == "model" and row.measure("pose following (pixels)").values == (100.0, 100.0)


def test_data_must_be_named() -> None:
    """Guards against novel views of the tiny world, which has no cameras."""
    with pytest.raises(UserError, match="novel-view needs --data SHARDS.*m2m data objects"):
        find_protocol("novel-view").default_data(3)
