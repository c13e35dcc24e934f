"""Contact sheets: the sets that were asked for, every picture in its place, captions that can be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from m2m.data.factory.encode import EncodeSettings, encode_shards
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.shard_groups import groups_of
from m2m.data.reports.preview import draw_sets, preview
from m2m.data.reports.sheets import Block, contact_sheet, wrapped
from m2m.data.shards import ShardError
from m2m.types import UserError
from tests.data.factory.test_encode import Averages
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.data.shards.making import flip

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """10 sets of 5 images in shards of 4, in two slices; set003 lacks image 2, set007 has none at all."""
    sets = full_sets(10)
    sets["set003"], sets["set007"] = [0, 1, 3, 4], []
    return write_folder(tmp_path / "shards", sets, per_shard=4, slices=[(0, 2), (2, 5)])


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def colours(sheet: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(sheet).reshape(-1, 3).tolist()))


def places(sheet: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """left, top, right, bottom of the pixels of a colour."""
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(axis=-1))
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def test_pictures_stand_in_reading_order_with_the_caption_below() -> None:
    """A caption above its pictures belongs, for the eye, to the set before."""
    sheet = contact_sheet([Block([plain(RED), plain(GREEN)], "one"), Block([plain(BLUE)], "two")], cell=64)
    red, green, blue = (places(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert red[2] < green[0] and red[1] == green[1]
    assert red[3] < blue[1] and red[0] == blue[0]
    assert [blue[2] - blue[0], blue[3] - blue[1]] == [62, 62]  # the cell without its frame
    ink = np.asarray(sheet.convert("L")) < 120
    assert ink[red[3] + 2 : blue[1] - 16].any() and not ink[: red[1] - 2].any()


def test_25_images_stand_in_rows_of_equal_length() -> None:
    """13 and 12, not 20 and 5; and not 25 in a row that no screen shows."""
    sheet = contact_sheet([Block([plain(RED)] * 13 + [plain(BLUE)] * 12, "many")], cell=20)
    red, blue = places(sheet, RED), places(sheet, BLUE)
    assert red[3] < blue[1] and red[0] == blue[0] and blue[2] < red[2]


def test_a_missing_picture_leaves_its_place_blank() -> None:
    """The next one moves up, and the number under the cursor is wrong from there on."""
    sheet = contact_sheet([Block([plain(RED), None, plain(BLUE)], "gap")], cell=40)
    red, blue = places(sheet, RED), places(sheet, BLUE)
    assert blue[0] - red[0] == 2 * 44
    assert (np.asarray(sheet)[red[1] : red[3], red[2] + 4 : blue[0] - 4] == 255).all()


def test_long_captions_are_wrapped_and_not_cut() -> None:
    """Captions of 77 tokens are wider than any sheet."""
    short = contact_sheet([Block([plain(RED)], "a caption")])
    long = contact_sheet([Block([plain(RED)], "a rather long caption about nothing " * 10)])
    assert long.width == short.width and long.height > short.height + 80
    margin = np.asarray(long.convert("L"))[:, -16:]
    assert (margin == 255).all()


def test_wrapping_keeps_every_word_and_fits_the_width() -> None:
    """A word wider than the line (a URL, a hash tag) is lost, or loops for ever."""
    font = ImageFont.load_default(size=14)
    text = "some words and " + "x" * 200 + " more words"
    lines = wrapped(text, 100, font)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= 100
    assert wrapped("", 100, font) == wrapped(" \n ", 100, font) == []
    assert len(wrapped("WWW", 1, font)) == 3


def test_odd_captions_are_drawn() -> None:
    """Captions from the web hold line breaks, control characters, other scripts, and nothing at all."""
    for caption in (
        "",
        "two\nlines\tand\x07a bell",
        "Москва и Ελληνικά",
        "crème brûlée",
        "猫 🐈",
        "\u202eright to left",
    ):
        assert contact_sheet([Block([plain(RED)], caption)], cell=32).height > 32


def test_a_set_without_pictures_has_its_block() -> None:
    """All images of a caption rejected: the set is there, and that is worth to be seen."""
    assert contact_sheet([Block([], "none"), Block([None, None], "rejected")], cell=32).height > 64


def test_the_same_seed_draws_the_same_sets(folder: Path) -> None:
    """A sheet that cannot be made again cannot be talked about."""
    first, again, other = (list(preview(folder, sets=4, seed=seed, cell=16))[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_every_set_is_drawn_with_the_same_chance(folder: Path) -> None:
    """Sets of the last, smaller shard drawn as often as all of a full one; the last set never."""
    groups = groups_of([ShardFolder(folder)])
    drawn: Counter[int] = Counter()
    for seed in range(400):
        drawn.update(group.start + row for group, rows in draw_sets(groups, 3, seed) for row in rows)
    assert set(drawn) == set(range(10))
    assert min(drawn.values()) > 80 and max(drawn.values()) < 170  # 120 expected; 4 standard deviations are 37
    assert sum(len(rows) for _, rows in draw_sets(groups, 99, 0)) == 10


def test_sheets_are_filled_one_after_the_other(folder: Path) -> None:
    """The last sheet forgotten when it is not full."""
    steps: list[tuple[int, int]] = []
    sheets = list(
        preview(folder, sets=10, per_sheet=4, cell=16, progress=lambda done, total: steps.append((done, total)))
    )
    assert len(sheets) == 3 and steps[-1] == (10, 10)
    assert sheets[0].height > sheets[2].height + 60 and sheets[1].height > sheets[2].height + 60


def test_images_of_all_slices_are_on_the_sheet(folder: Path) -> None:
    """Images 0:2 and 2:5 of a set lie in two files."""
    (sheet,) = preview(folder, keys=["set006"], cell=40)
    # Green is the number of the image, red that of the set.
    greens = {green for red, green, _ in colours(sheet) if red == 6}
    assert greens == {0, 1, 2, 3, 4}


def test_keys_choose_sets(folder: Path) -> None:
    """A key that no shard has would give a sheet of the others, without a word."""
    (sheet,) = preview(folder, keys=["set009", "set003"], cell=40)
    assert {red for red, green, _ in colours(sheet) if green in (3, 4) and red < 20} == {3, 9}
    with pytest.raises(UserError, match="no set 'nobody'"):
        list(preview(folder, keys=["set003", "nobody"]))


def test_a_rejected_image_and_an_empty_set_are_shown(folder: Path) -> None:
    """Image 2 of set003 is missing in the middle; set007 has no image."""
    (sheet,) = preview(folder, keys=["set003"], cell=128)
    (full,) = preview(folder, keys=["set002"], cell=128)
    assert sheet.size == full.size
    assert list(preview(folder, keys=["set007"], cell=40))


def test_damage_and_latents_are_errors(folder: Path, tmp_path: Path) -> None:
    """A sheet of half a shard looks like a sheet of a shard; latents cannot be looked at."""
    encode_shards(ShardFolder(folder), Averages(), EncodeSettings(tmp_path / "latents"))
    with pytest.raises(UserError, match="holds latents"):
        list(preview(tmp_path / "latents", sets=1))
    flip(folder / "shard-000000-000-002.tar", 600)
    with pytest.raises(ShardError, match="shard-000000-000-002"):
        list(preview(folder, keys=["set000"]))
