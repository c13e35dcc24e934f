"""Images for an evaluation: the same bytes however the work is shared and however often it is interrupted."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2m.checkpoint import read_json
from m2m.evaluation.generation import REQUEST, GenerateConfig, generate, set_folder
from m2m.evaluation.sets import EvaluationSets
from m2m.pipeline import M2MPipeline
from m2m.types import UserError
from tests.tiny import tiny_pipeline

CONFIG = GenerateConfig(images=2, steps=1, batch=2)
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def pipe() -> M2MPipeline:
    return tiny_pipeline("self")


@pytest.fixture(scope="module")
def sets() -> EvaluationSets:
    return EvaluationSets("world:mini:test:5", given=2, real=0)


@pytest.fixture(scope="module")
def straight(pipe: M2MPipeline, sets: EvaluationSets, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("straight")
    assert generate(pipe, sets, folder, CONFIG, "weights")
    return contents(folder)


def contents(folder: Path) -> Contents:
    """The bytes of all files of a folder, hidden ones too, by their names below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def decoded(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def array(folder: Path, index: int, image: int) -> Any:
    return decoded((set_folder(folder, index) / f"{image:03d}.png").read_bytes())


def test_a_folder_holds_the_images_of_the_sets(pipe: M2MPipeline, sets: EvaluationSets, straight: Contents) -> None:
    """Guards against images that lie in the folder of another set, in another order, or are not the pipeline's."""
    names = [f"{index:06d}/{image:03d}.png" for index in range(5) for image in range(2)]
    assert sorted(straight) == sorted([*names, REQUEST])
    given = [Image.fromarray(image.numpy()) for image in sets[4].given]
    made = pipe([given], num_images=2, num_inference_steps=1, set_ids=[sets[4].key])
    assert np.array_equal(decoded(straight["000004/001.png"]), np.asarray(made.images[0][1]))
    assert len(set(straight.values())) == len(straight)


def test_all_images_are_all_whatever_the_models_own_window(
    sets: EvaluationSets, straight: Contents, tmp_path: Path
) -> None:
    """Guards against images that the folder's request says saw everything, and which did not."""
    pipe = tiny_pipeline("self")
    pipe.register_to_config(default_window=1, default_window_policy="anchor")
    assert generate(pipe, sets, tmp_path, CONFIG, "weights")
    assert contents(tmp_path) == straight
    with pytest.raises(UserError, match=r"window is None, not 1.*window_policy is 'sliding', not 'anchor'"):
        generate(pipe, sets, tmp_path, replace(CONFIG, window=1, window_policy="anchor"), "weights")


def test_two_processes_make_what_one_makes(
    pipe: M2MPipeline, sets: EvaluationSets, straight: Contents, tmp_path: Path
) -> None:
    """Guards against noise, or company in a batch, that depends on the process; and against sets that nobody makes."""
    reports: list[tuple[int, int]] = []
    assert generate(pipe, sets, tmp_path, CONFIG, "weights", (1, 2), lambda *done: reports.append(done))
    assert reports == [(0, 2), (2, 2)] and not set_folder(tmp_path, 0).exists()
    assert generate(pipe, sets, tmp_path, CONFIG, "weights", (0, 2))
    assert contents(tmp_path) == straight


def test_a_run_that_was_stopped_goes_on(
    pipe: M2MPipeline, sets: EvaluationSets, straight: Contents, tmp_path: Path
) -> None:
    """Guards against a stop that loses what is done, or is not heard; and against a set in other company afterwards."""
    answers = iter([False, True])
    assert not generate(pipe, sets, tmp_path, CONFIG, "weights", stop=lambda: next(answers))
    assert sorted(contents(tmp_path)) == sorted(name for name in straight if name < "000002" or name == REQUEST)
    kept = set_folder(tmp_path, 1).stat().st_mtime_ns
    set_folder(tmp_path, 0).rename(tmp_path / ".000000.12345678.partial")  # as if killed between the sets of a group
    (set_folder(tmp_path, 0)).mkdir()
    reports: list[tuple[int, int]] = []
    assert generate(pipe, sets, tmp_path, CONFIG, "weights", progress=lambda *done: reports.append(done))
    assert contents(tmp_path) == straight
    assert set_folder(tmp_path, 1).stat().st_mtime_ns == kept
    assert reports == [(1, 5), (2, 5), (4, 5), (5, 5)]


def test_another_batch_makes_the_same_pictures_to_the_eye(
    pipe: M2MPipeline, sets: EvaluationSets, straight: Contents, tmp_path: Path
) -> None:
    """Guards against noise that belongs to a place in the batch. Last bits may differ, and so a rounding, not more."""
    generate(pipe, sets, tmp_path, GenerateConfig(images=2, steps=1, batch=3), "weights")
    assert (tmp_path / REQUEST).read_bytes() == straight[REQUEST]
    for index, image in np.ndindex(5, 2):
        in_pairs = decoded(straight[f"{index:06d}/{image:03d}.png"])
        assert np.abs(array(tmp_path, index, image) - in_pairs).max() <= 2


def test_a_folder_of_another_request_is_refused(
    pipe: M2MPipeline, sets: EvaluationSets, straight: Contents, tmp_path: Path
) -> None:
    """Guards against a table over images of two settings, two models or two choices of sets."""
    (tmp_path / REQUEST).write_bytes(straight[REQUEST])
    with pytest.raises(UserError, match=r"another request: steps is 1, not 3, seed is 0, not 7; name another folder"):
        generate(pipe, sets, tmp_path, GenerateConfig(images=2, steps=3, batch=2, seed=7), "weights")
    with pytest.raises(UserError, match="model is 'weights', not 'others'"):
        generate(pipe, sets, tmp_path, CONFIG, "others")
    with pytest.raises(UserError, match="sets is 5, not 4"):
        generate(pipe, EvaluationSets("world:mini:test:4", given=2, real=0), tmp_path, CONFIG, "weights")
    with pytest.raises(UserError, match="data is '"):
        generate(pipe, EvaluationSets("world:mini:test:5:1", given=2, real=0), tmp_path, CONFIG, "weights")
    assert sorted(contents(tmp_path)) == [REQUEST]


def test_fewer_given_images_are_the_first_ones(pipe: M2MPipeline, sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against a curve by given images of which each point saw all of them."""
    fewer = EvaluationSets("world:mini:test:5", given=1, real=0)
    generate(pipe, sets, tmp_path / "cut", GenerateConfig(images=1, steps=1, given=1), "weights")
    generate(pipe, fewer, tmp_path / "short", GenerateConfig(images=1, steps=1), "weights")
    generate(pipe, sets, tmp_path / "all", GenerateConfig(images=1, steps=1), "weights")
    assert contents(tmp_path / "cut") == contents(tmp_path / "short")
    assert not np.array_equal(array(tmp_path / "cut", 0, 0), array(tmp_path / "all", 0, 0))


def test_unconditional_images_know_nothing_and_all_differ(
    pipe: M2MPipeline, sets: EvaluationSets, tmp_path: Path
) -> None:
    """Guards against a floor that sees given images or its own first one, and against one picture again and again."""
    config = GenerateConfig(images=2, steps=1, batch=3, unconditional=True)
    generate(pipe, sets, tmp_path, config, "weights")
    alone = pipe([[]], num_images=1, num_inference_steps=1, set_ids=[f"alone/{sets[3].key}/1"], guidance_scale=3.0)
    assert np.abs(array(tmp_path, 3, 1) - np.asarray(alone.images[0][0]).astype(int)).max() <= 2
    images = [content for name, content in contents(tmp_path).items() if name != REQUEST]
    assert len(images) == len(set(images)) == 10
    assert read_json(tmp_path / REQUEST)["given"] == 0


@pytest.mark.parametrize(
    ("changes", "share", "message"),
    [
        ({}, (2, 2), "rank 2 of 2 does not exist"),
        ({"given": 3}, (0, 1), "given is 3, the sets have 2 given images"),
        ({"window": 0}, (0, 1), "window is 0"),
    ],
)
def test_what_cannot_be_made_is_refused(
    pipe: M2MPipeline, sets: EvaluationSets, tmp_path: Path, changes: dict[str, int], share: Any, message: str
) -> None:
    """Guards against sets that no process makes, and curves over given images that are not there."""
    with pytest.raises(UserError, match=message):
        generate(pipe, sets, tmp_path / "out", GenerateConfig(**changes), "weights", share)
    assert not (tmp_path / "out").exists()  # else the right settings would be refused there as another request


def test_a_file_and_no_images_at_all_are_refused(pipe: M2MPipeline, sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against a traceback for a slip of the hand."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        generate(pipe, sets, tmp_path / "file", CONFIG, "weights")
    with pytest.raises(UserError, match="images is 0"):
        GenerateConfig(images=0)
