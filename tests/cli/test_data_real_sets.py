"""`m2m data folder` and `m2m data coco`, from picture files to shards that are read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.cli.main import main
from m2m.data.pictures import read_picture, to_square
from m2m.data.shards import ShardReader, open_json, open_picture, read_manifest, read_record, shard_path
from tests.cli.running import one_error_line, run_m2m
from tests.data.real_sets.samples import album, cats_and_dogs, save_photograph, truncate, write_coco


def stored(folder: Path) -> list[tuple[dict[str, Any], list[np.ndarray]]]:
    """All sets of a folder of shards: their KEY.json, and their pictures in the order of their numbers."""
    manifest = read_manifest(folder)
    assert manifest.complete
    sets = []
    for entry in manifest.shards:
        with ShardReader(shard_path(folder, entry.name), read_record(folder, entry.name)) as reader:
            for number in range(len(reader)):
                entries = reader.read(number)
                names = sorted(name for name in entries if name != "json")
                pictures = [np.asarray(open_picture(entries[name], name)) for name in names]
                sets.append((open_json(entries["json"], "json"), pictures))
    return sets


def square(path: Path, size: int) -> np.ndarray:
    return np.asarray(to_square(read_picture(path), size))


def m2m(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_folder_to_shards_and_back(tmp_path: Path) -> None:
    """A picture under another set's or number's name, a lost picture, a set in two shards."""
    photos, out = album(tmp_path / "photos"), tmp_path / "shards"
    arguments = ("data", "folder", photos, "--out", out, "--size", "24", "--format", "png", "--sets-per-shard", "1")
    assert m2m(*arguments) == 0
    sets = stored(out)
    assert [meta["folder"] for meta, _ in sets] == ["cats", "dogs/old"]
    assert [len(pictures) for _, pictures in sets] == [12, 3]
    for meta, pictures in sets:
        for name, picture in zip(meta["files"], pictures, strict=True):
            assert np.array_equal(picture, square(photos / name, 24))


def test_the_same_command_again_makes_nothing_and_other_pictures_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New photographs in an old folder must not be mixed with shards of the old ones."""
    photos, out = album(tmp_path / "photos"), tmp_path / "shards"
    arguments = ("data", "folder", photos, "--out", out, "--size", "16", "--max-images", "3")
    assert m2m(*arguments) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert m2m(*arguments) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "0 of them new" in capsys.readouterr().out
    save_photograph(photos / "birds" / "1.png", seed=1)
    save_photograph(photos / "birds" / "2.png", seed=2)
    assert m2m(*arguments) == 2
    assert "holds other sets" in capsys.readouterr().err


def test_folder_says_what_is_broken(tmp_path: Path) -> None:
    """By default nothing is written; on request the rest is, and what is left out is named."""
    photos, out = album(tmp_path / "photos"), tmp_path / "shards"
    truncate(photos / "cats" / "cat 7.png")
    arguments = ("data", "folder", photos, "--out", out, "--size", "16")
    message = one_error_line(run_m2m(*arguments))
    assert "1 picture cannot be used" in message and "cat 7.png" in message and "--broken skip" in message
    assert not out.exists()
    result = run_m2m(*arguments, "--broken", "skip")
    assert result.returncode == 0 and "left out: " in result.stderr and "cat 7.png" in result.stderr
    assert [len(pictures) for _, pictures in stored(out)] == [11, 3]


def test_coco_to_shards_and_back(tmp_path: Path) -> None:
    """Section 8.3: the images of a set are different ones, and their ids are those of the pictures stored."""
    annotations, images = write_coco(tmp_path, 14, cats_and_dogs())
    out = tmp_path / "shards"
    arguments = ("data", "coco", "--annotations", annotations, "--images", images, "--out", out, "--format", "png")
    assert m2m(*arguments, "--size", "24", "--images-per-set", "3", "--sets-per-shard", "2") == 0
    sets = stored(out)
    assert [meta["category"] for meta, _ in sets] == ["cat", "cat", "cat", "dog", "dog"]
    shows = {(entry["image_id"], entry["category_id"]) for entry in json.loads(annotations.read_text())["annotations"]}
    for meta, pictures in sets:
        assert len(set(meta["image_ids"])) == len(pictures) == 3
        for number, picture in zip(meta["image_ids"], pictures, strict=True):
            assert (number, meta["category_id"]) in shows
            assert np.array_equal(picture, square(images / f"{number:012d}.jpg", 24))


def test_coco_names_missing_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of the wrong year holds none of the images."""
    annotations, images = write_coco(tmp_path, 14, cats_and_dogs())
    (images / "000000000008.jpg").unlink()
    arguments = ("data", "coco", "--annotations", annotations, "--images", images, "--out", tmp_path / "shards")
    assert m2m(*arguments, "--size", "16") == 2
    assert "000000000008.jpg' does not exist" in capsys.readouterr().err
    assert m2m(*arguments, "--size", "16", "--broken", "skip") == 0
    assert "000000000008.jpg' does not exist" in capsys.readouterr().err
    assert 8 not in {number for meta, _ in stored(tmp_path / "shards") for number in meta["image_ids"]}


@pytest.mark.parametrize("command", ["folder", "coco"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose module cannot be imported shows only when it is called."""
    assert m2m("data", command, "--help") == 0
    assert f"m2m data {command}" in capsys.readouterr().out
