"""`m2m data build` as a user runs it: shards at the end, one line for each mistake, and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.cli.main import main
from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.shards import read_manifest
from tests.cli.running import environment
from tests.data.factory.making import captions_folder, contents


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("cli") / "captions", count=30)


def arguments(captions: Path, out: Path, *more: str) -> list[str]:
    given = f"data build --captions {captions} --generator world:mini --out {out} --size 16".split()
    return [*given, *more]


def test_captions_become_shards_and_again_nothing(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way of the options: a --seed or --quality that never arrives shows in the identity."""
    options = "--sets 5 --images-per-set 6 --sets-per-shard 2 --format jpg --quality 80 --seed 3 --batch 4".split()
    assert main(arguments(captions, tmp_path / "out", *options)) == 0
    assert capsys.readouterr().out == f"3 of 3 shards are whole, 3 of them new: {tmp_path / 'out'}\n"
    manifest = read_manifest(tmp_path / "out")
    assert manifest.complete and [entry.count for entry in manifest.shards] == [2, 2, 1]
    wanted = {
        "sets": 5,
        "images_per_set": 6,
        "sets_per_shard": 2,
        "format": "jpg",
        "quality": 80,
        "seed": 3,
        "batch": 4,
    }
    assert wanted.items() <= manifest.settings.items()
    assert manifest.settings["generator"]["size"] == 16

    before = contents(tmp_path / "out")
    assert main(arguments(captions, tmp_path / "out", *options)) == 0
    assert "3 of 3 shards are whole, 0 of them new" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before


def test_slices_and_shards(captions: Path, tmp_path: Path) -> None:
    """The options of a part now and the rest later, in the order of the paper: 5 of 25 images first."""
    options = ["--sets", "4", "--sets-per-shard", "2", "--images-per-set", "6"]
    out = tmp_path / "out"
    assert main(arguments(captions, out, *options, "--images", "0:2", "--shards", "0:1")) == 0
    assert [entry.name for entry in read_manifest(out).shards] == ["shard-000000-000-002"]
    assert main(arguments(captions, out, *options)) == 0
    named = [entry.name for entry in read_manifest(out).shards]
    assert named == [f"shard-00000{index}-{images}" for index in (0, 1) for images in ("000-002", "002-006")]
    assert read_manifest(out).complete


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--captions", "nowhere"], "'nowhere' does not exist"),
        (["--generator", "magic"], "no generator 'magic'"),
        (["--images", "5"], "--images '5' is no range"),
        (["--images", "0:30"], "beyond the 25 images"),
        (["--shards", "2:2"], "--shards '2:2' is no range"),
        (["--shards", "0:2"], "make the shards 0:1"),
        (["--sets", "31"], "holds 30, fewer than the 31"),
        (["--split", "dev"], "no split 'dev'"),
        (["--split", "test"], "nothing to make"),
        (["--format", "gif"], "format 'gif' is not one of webp, png, jpg"),
        (["--size", "1000"], "not 1000"),
        (["--guidance", "nan", "--generator", "diffusers:nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    more: list[str], expected: str, captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback, or a folder that a typo has claimed for other settings, would cost the next run."""
    out = tmp_path / "out"
    assert main(arguments(captions, out, *more)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and expected in captured.err
    assert not out.exists()


def test_a_folder_of_other_settings_is_refused(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is repeated from memory: what differs must be said."""
    options = ["--sets", "2", "--images-per-set", "2"]
    assert main(arguments(captions, tmp_path, *options)) == 0
    capsys.readouterr()
    assert main(arguments(captions, tmp_path, *options, "--quality", "75", "--size", "24")) == 2
    message = capsys.readouterr().err
    assert "generator.size is 16, not 24" in message and "quality is 90, not 75" in message


def test_a_place_that_cannot_be_written_is_told_before_the_generator_is_loaded(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of loading, and then a typo in --out."""
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(arguments(captions, out, "--generator", "diffusers:nowhere")) == 2
        message = capsys.readouterr().err
        assert f"'{tmp_path / 'file'}' is a file" in message and "nowhere" not in message


def test_a_caption_that_cannot_be_drawn_costs_its_shard_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 with a hole in the set, or an end of the whole run, would both be found out weeks later."""
    lines = ["a red apple on the moon", *[f"{n} cats, flat style" for n in ("two", "three", "four")]]
    (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n")
    sift_captions([str(tmp_path / "captions.txt")], tmp_path / "captions", SiftConfig(test=0))
    given = arguments(tmp_path / "captions", tmp_path / "out", "--sets-per-shard", "1", "--images-per-set", "2")
    for _ in range(2):
        assert main(given) == 1
        message = capsys.readouterr().err
        assert "a red apple on the moon" in message and "failed 3 times" in message
        assert "1 shards are set aside" in message and "3 of 4 shards are whole" in message
    (failed,) = (tmp_path / "out" / "failed").glob("*.json")
    assert json.loads(failed.read_text())["attempts"] == 3
    assert len(read_manifest(tmp_path / "out").shards) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_all_that_is_made(number: int, captions: Path, tmp_path: Path) -> None:
    """A cluster takes its machine back with SIGTERM: what a kill would lose is kept, and the next run continues."""
    options = ["--images-per-set", "10", "--sets-per-shard", "8", "--size", "48"]
    out, other = tmp_path / "out", tmp_path / "other"
    command = [sys.executable, "-m", "m2m", *arguments(captions, out, *options)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), process_group=0
    )
    while child.poll() is None and not list(out.glob("*.tar")):
        time.sleep(0.005)
    child.send_signal(number)
    printed, message = child.communicate(timeout=60)
    assert (child.returncode, printed) == (128 + number, "")
    assert message.count("\n") == 1 and f"stopped by {signal.Signals(number).name}" in message
    assert "the same command continues" in message
    manifest = read_manifest(out)
    assert manifest.shards and not manifest.complete
    assert main(arguments(captions, out, *options)) == 0
    assert main(arguments(captions, other, *options)) == 0
    assert contents(out) == contents(other)
