"""Folders of steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.data.drawings.assembly import Assembly, assemblies
from m2m.data.drawings.miniature import SETTINGS, DrawingOptions, write_drawings
from m2m.data.drawings.variants import draw_variant
from m2m.data.pictures import read_picture
from m2m.types import UserError
from tests.data.drawings.samples import emoji

OPTIONS = DrawingOptions(size=24, variants=2)


@pytest.fixture(scope="module")
def found() -> list[Assembly]:
    """Two emoji in steps."""
    return assemblies(emoji("1f354", "1f682"))


def folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir())


def test_folders_hold_the_steps_in_order(found: list[Assembly], tmp_path: Path) -> None:
    """Lossless, so that what is there stays equal from step to step."""
    out = tmp_path / "a" / "b"
    assert write_drawings(found, OPTIONS, out) == (4, 4)
    assert folders(out) == [f"{one.drawing.name}-{number}" for one in found for number in range(2)]
    files = sorted((out / f"{found[1].drawing.name}-1").iterdir())
    assert [file.name for file in files] == [f"{step:02d}.png" for step in range(len(found[1].counts))]
    pictures = np.stack([np.asarray(read_picture(file)) for file in files])
    assert np.array_equal(pictures, draw_variant(found[1], 1, 24, seed=0))


def test_a_run_continues_and_may_grow(found: list[Assembly], tmp_path: Path) -> None:
    """A folder that is there is whole; it is neither made again nor counted as new."""
    write_drawings(found[:1], DrawingOptions(size=24, variants=1), tmp_path)
    seen: list[tuple[int, int]] = []
    assert write_drawings(found, OPTIONS, tmp_path, lambda done, total: seen.append((done, total))) == (3, 4)
    assert seen == [(done, 4) for done in range(1, 5)] and len(folders(tmp_path)) == 4


def test_no_folder_is_left_half_written(found: list[Assembly], tmp_path: Path) -> None:
    """Ctrl-C between two steps: half a procedure would be taken for a whole one."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_drawings(found, OPTIONS, tmp_path, interrupt)
    assert folders(tmp_path) == [f"{found[0].drawing.name}-0"]
    assert write_drawings(found, OPTIONS, tmp_path) == (3, 4)


@pytest.mark.parametrize("other", [{"size": 32}, {"seed": 1}, {"split": "test"}, {"source": "kanji"}])
def test_a_folder_holds_drawings_of_one_kind(
    found: list[Assembly], tmp_path: Path, other: dict[str, int | str]
) -> None:
    """Test drawings among those for training would spoil every measure."""
    write_drawings(found[:1], DrawingOptions(), tmp_path)
    with pytest.raises(UserError, match=f"holds drawings of other options.*{SETTINGS}"):
        write_drawings(found[:1], DrawingOptions(**other), tmp_path)  # type: ignore[arg-type]


def test_a_folder_of_something_else_is_left_alone(found: list[Assembly], tmp_path: Path) -> None:
    """`--out ~` by mistake."""
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds something else"):
        write_drawings(found, OPTIONS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split 'dev' is not one of train, validation, test"),
        ({"source": "clipart"}, "source 'clipart' is not one of twemoji, kanji"),
        ({"size": 4}, "size is 4; it must be at least 8"),
        ({"variants": 0}, "variants is 0"),
        ({"count": 0}, "count is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes(options: dict[str, int | str], message: str) -> None:
    """Each would else end in an exception deep inside, or in no picture."""
    with pytest.raises(UserError, match=message):
        DrawingOptions(**options)  # type: ignore[arg-type]
