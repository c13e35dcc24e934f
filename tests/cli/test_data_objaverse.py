"""`m2m data objaverse`, from renders to shards that are read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.data.pictures import read_picture
from tests.cli.running import one_error_line, run_m2m
from tests.cli.test_data_real_sets import m2m, stored
from tests.data.real_sets.view_samples import save_object


def test_objects_to_shards_and_back(tmp_path: Path) -> None:
    """Bug: a camera under another picture's number, or lost on the way."""
    cameras = [save_object(tmp_path / "views" / name, 4, seed) for seed, name in enumerate("ab")]
    out = tmp_path / "shards"
    assert m2m("data", "objaverse", tmp_path / "views", "--out", out, "--size", "24", "--format", "png") == 0
    sets = stored(out)
    assert [meta["object"] for meta, _ in sets] == ["a", "b"]
    for (meta, pictures), own in zip(sets, cameras, strict=True):
        assert meta["conditions"]["name"] == "camera"
        np.testing.assert_allclose(meta["conditions"]["values"], own.reshape(4, 12), atol=1e-7)
        for name, picture in zip(meta["files"], pictures, strict=True):
            assert np.array_equal(picture, np.asarray(read_picture(tmp_path / "views" / name)))


def test_a_wrong_camera_is_one_line(tmp_path: Path) -> None:
    """Bug: a traceback, or shards that hold what was read before the broken object."""
    for name in "abc":
        save_object(tmp_path / "views" / name, 2)
    np.save(tmp_path / "views" / "b" / "000.npy", np.zeros((2, 4)))
    arguments = ("data", "objaverse", tmp_path / "views", "--out", tmp_path / "shards", "--size", "16")
    message = one_error_line(run_m2m(*arguments))
    assert "b/000.npy' is 2x4; it must be 3x4" in message and "--broken skip" in message
    assert not (tmp_path / "shards").exists()


def test_broken_objects_are_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: left out without a word."""
    for name in "abc":
        save_object(tmp_path / "views" / name, 2)
    (tmp_path / "views" / "b" / "000.npy").unlink()
    arguments = ("data", "objaverse", tmp_path / "views", "--out", tmp_path / "shards", "--size", "16")
    assert m2m(*arguments, "--broken", "skip") == 0
    told = capsys.readouterr()
    assert "2 objects of 4 views" in told.out and "left out: " in told.err and "b/000.png" in told.err
    assert [meta["object"] for meta, _ in stored(tmp_path / "shards")] == ["a", "c"]
