"""Whatever is uploaded becomes a good picture or one line, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.demo import uploads
from m2m.demo.uploads import NAME_LENGTH, Limits, read_upload, read_uploads, shown_name
from m2m.types import UserError
from tests.demo.hostile import FORMATS, encoded, hostile_uploads, photo, png, zeros

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and limits of Linux and macOS")

CASES = hostile_uploads()
LIMITS = Limits()
# Whatever else happens to it, a file of these families is a picture that anybody would want to see.
MUST_BE_READ = ("odd-", "polyglot-zip", "polyglot-html")


def message_of(path: Path | str, limits: Limits = LIMITS) -> str:
    with pytest.raises(UserError) as caught:
        read_upload(path, limits)
    return str(caught.value)


def entries(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_upload_becomes_a_picture_or_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, an error of some library's own, a path of the server in a message, a file left somewhere."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("TMPDIR", str(home))
    path = CASES[case](tmp_path)
    before = entries(tmp_path)
    try:
        image = read_upload(path)
    except UserError as error:
        message = str(error)
        assert not case.startswith(MUST_BE_READ), message
        assert message.isprintable() and len(message) < 200
        assert str(tmp_path) not in message and "/" not in message.replace(shown_name(str(path)), "")
    else:
        assert image.mode == "RGB" and 0 < max(image.size) <= Limits().side
        assert len(image.tobytes()) == 3 * image.width * image.height
    assert entries(tmp_path) == before


def test_there_are_a_hundred_of_them() -> None:
    """Names that collide would quietly take the place of each other."""
    assert len(CASES) >= 100


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_allowed_format_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    """A format known by its name would let HTML named .png through, and refuse a picture without a suffix."""
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(photo(64, 48), FORMATS[suffix]))
    found = np.asarray(read_upload(path), dtype=float)
    assert found.shape == (48, 64, 3)
    assert np.abs(found - np.asarray(photo(64, 48), dtype=float)).mean() < 12  # GIF has 256 colours


def test_a_large_picture_is_scaled_down_in_its_shape(tmp_path: Path) -> None:
    """A page that keeps every pixel of a phone's pictures needs gigabytes for a few visitors."""
    path = tmp_path / "large.png"
    photo(900, 300).save(path)
    image = read_upload(path, Limits(side=300))
    assert image.size == (300, 100)
    wanted = np.asarray(photo(900, 300).resize((300, 100), Image.Resampling.LANCZOS), dtype=float)
    assert np.abs(np.asarray(image, dtype=float) - wanted).mean() < 2


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_turned_picture_stands_upright_and_clear_parts_are_white(tmp_path: Path, suffix: str) -> None:
    """Phones store pictures lying down; cut-out pictures would stand on black."""
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored = Image.new("RGB", (40, 20), "blue")
    stored.paste("red", (0, 0, 20, 20))
    stored.save(tmp_path / f"phone.{suffix}", exif=turned)
    upright = read_upload(tmp_path / f"phone.{suffix}")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 200 and upright.getpixel((10, 35))[2] > 200
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_upload(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colours_below_what_is_clear_do_not_bleed_in(tmp_path: Path, mode: str) -> None:
    """Scaling before the transparency is applied would draw a black rim around every cut-out picture."""
    cut = Image.new("RGBA", (600, 600), (0, 0, 0, 0))
    cut.paste((255, 255, 255, 255), (200, 200, 400, 400))
    cut.convert(mode).save(tmp_path / "cut.png", transparency=0 if mode == "P" else None)
    assert np.asarray(read_upload(tmp_path / "cut.png", Limits(side=100))).min() >= 250


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    """Pillow's own conversion clips at 255: a white sheet."""
    Image.fromarray(np.full((500, 500), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert read_upload(tmp_path / "deep.png", Limits(side=50)).getpixel((9, 9)) == (128, 128, 128)


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    """Decoding all frames of an animation is a bomb of its own."""
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    for suffix in ("gif", "webp", "png", "tif"):
        first.save(tmp_path / f"moving.{suffix}", save_all=True, append_images=[second])
        assert read_upload(tmp_path / f"moving.{suffix}").getpixel((4, 4))[0] > 240


def test_a_bomb_ends_with_its_time_and_memory(tmp_path: Path) -> None:
    """Limits that are read and not applied: the same file is good with more, and refused with less."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(3000, 3000, zeros(3000 * 9001)))
    generous = Limits(seconds=20)
    assert read_upload(path, generous).size == (1024, 1024)
    for short in (replace(generous, seconds=0.01), replace(generous, memory=20_000_000)):
        assert "too much time or memory" in message_of(path, short)
    assert "3000 x 3000 pixels, more than 8" in message_of(path, replace(generous, pixels=8_000_000))


def test_a_reader_that_sleeps_does_not_hold_a_visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time alone never runs out in a process that waits."""
    path = tmp_path / "picture.png"
    photo().save(path)
    monkeypatch.setattr(uploads, "PATIENCE", 0.001)
    assert "too much time" in message_of(path)


def test_the_reader_cannot_write_a_file(tmp_path: Path) -> None:
    """A decoder that is taken over could leave something behind."""
    code = (
        "from m2m.demo.upload_reader import _restrict\nfrom m2m.demo.uploads import Limits\n"
        "_restrict(Limits())\nwith open('left.txt', 'w') as file:\n    file.write('something')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "File too large" in done.stderr
    assert not (tmp_path / "left.txt").read_text()


def test_the_reader_answers_with_plain_pixels(tmp_path: Path) -> None:
    """The parent must parse nothing of the visitor's: sizes and raw bytes only."""
    (tmp_path / "a.bmp").write_bytes(encoded(Image.new("RGB", (2, 1), (1, 2, 3)), "BMP"))
    with open(tmp_path / "a.bmp", "rb") as file:
        command = [sys.executable, "-m", uploads.READER, json.dumps({})]
        answer = subprocess.run(command, stdin=file, capture_output=True).stdout
    assert answer == b"2 1\n" + bytes([1, 2, 3] * 2)


def test_too_many_bytes_are_refused_before_the_file_is_read(tmp_path: Path) -> None:
    """A hole of a terabyte costs nothing to make and everything to read."""
    path = tmp_path / "hole.png"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    assert message_of(path).startswith("'hole.png' has 1099511.6 MB, more than 20 MB")


def test_too_many_pictures_are_refused_together(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    assert len(read_uploads([tmp_path / "a.png"] * 2)) == 2
    with pytest.raises(UserError, match="3 pictures are too many; give at most 2"):
        read_uploads([tmp_path / "a.png"] * 3, Limits(count=2))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("a\nb\x1b[31m\u202e.png", "a?b?[31m?.png"),
        ("día.png", "día.png"),
        ("", ""),
    ],
)
def test_a_name_is_shown_without_folders_and_tricks(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_a_long_name_keeps_both_ends() -> None:
    shown = shown_name("begin" + "x" * 999 + "end.png")
    assert shown.startswith("begin") and shown.endswith("end.png") and len(shown) <= NAME_LENGTH


def test_the_visitors_own_name_is_the_one_that_is_shown(tmp_path: Path) -> None:
    """Gradio stores files under names of its own."""
    (tmp_path / "tmp1234").write_text("no picture")
    with pytest.raises(UserError, match="'mine.png' is no picture"):
        read_upload(tmp_path / "tmp1234", name="C:/mine.png")
