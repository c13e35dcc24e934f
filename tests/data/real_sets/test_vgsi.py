"""The methods of wikiHow articles as procedures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.data.pictures import read_picture, to_square
from m2m.data.real_sets import VgsiOptions, VgsiSets
from m2m.types import UserError
from tests.data.real_sets.samples import truncate
from tests.data.real_sets.vgsi_samples import article, write_vgsi


def sets_of(files: tuple[Path, Path], **options: object) -> VgsiSets:
    return VgsiSets(VgsiOptions(*files, **{"size": 16, **options}))  # type: ignore[arg-type]


def test_every_method_is_a_procedure_in_the_order_of_its_steps(tmp_path: Path) -> None:
    """Sorted by name, step 10 comes before step 2."""
    files = write_vgsi(tmp_path, [article(0, (12, 2)), article(1, (3,))])
    sets = sets_of(files)
    plans = sets.sets(0, len(sets))
    assert [plan.images for plan in plans] == [12, 2, 3] and sets.pictures == 17
    assert plans[0].meta["step_ids"] == [f"1000_0_{step}" for step in range(12)]
    assert plans[0].meta["files"] == [f"0/1000_0_{step}.png" for step in range(12)]
    assert plans[1].meta["caption"] == "How to Make Dish 0: Method 1"
    assert plans[2].meta["article"] == "1001" and plans[2].meta["steps"] == [f"Do thing {step}." for step in range(3)]
    (picture,) = sets.make([(plans[0], 10)])
    assert np.array_equal(picture, np.asarray(to_square(read_picture(files[1] / "0" / "1000_0_10.png"), 16)))


def test_few_and_many_steps(tmp_path: Path) -> None:
    """Methods that are too short are counted, and pictures beyond max-steps need not be there."""
    files = write_vgsi(tmp_path, [article(0, (5, 3, 1))])
    (files[1] / "0" / "1000_0_4.png").unlink()
    sets = sets_of(files, min_steps=2, max_steps=4)
    assert [plan.images for plan in sets.sets(0, 9)] == [4, 3] and sets.short == 1
    with pytest.raises(UserError, match=r"no method with at least 6 usable.*\(3 of 3 methods have fewer steps\)"):
        sets_of(files, min_steps=6)


def test_a_step_without_a_picture_is_left_out(tmp_path: Path) -> None:
    """Null and an empty address say that the article shows none; a missing headline or name is no mistake."""
    entry = article(0, (4, 2))
    first, second = entry["methods"]
    first["steps"][1]["img"] = None
    first["steps"][2]["img"] = ""
    del first["steps"][0]["headline"]
    second["name"] = None
    plans = sets_of(write_vgsi(tmp_path, [entry])).sets(0, 9)
    assert plans[0].meta["step_ids"] == ["1000_0_0", "1000_0_3"]
    assert plans[0].meta["steps"] == ["", "Do thing 3."] and plans[1].meta["caption"] == "How to Make Dish 0"


def test_missing_and_broken_pictures(tmp_path: Path) -> None:
    """By default they stop the run by name; on request their whole method is left out, for a gap is no procedure."""
    files = write_vgsi(tmp_path, [article(0), article(1)])
    (files[1] / "0" / "1000_0_1.png").unlink()
    truncate(files[1] / "1" / "1001_1_0.png")
    with pytest.raises(UserError, match=r"2 pictures cannot be used.*1001_1_0\.png'.*broken.*1000_0_1\.png' does not"):
        sets_of(files)
    sets = sets_of(files, skip_broken=True)
    assert [plan.meta["step_ids"][0] for plan in sets.sets(0, 9)] == ["1000_1_0", "1001_0_0"]
    assert len(sets.refused) == 2


def test_splits_are_by_article(tmp_path: Path) -> None:
    """Two methods of one article show the same dish: not in training and test."""
    files = write_vgsi(tmp_path, [article(number, (2, 2)) for number in range(60)])
    split = {}
    for name in ("train", "validation", "test"):
        split[name] = [plan.meta["article"] for plan in sets_of(files, split=name).sets(0, 999)]
    assert sum(map(len, split.values())) == len(sets_of(files)) == 120
    articles = [set(members) for members in split.values()]
    assert sum(map(len, articles)) == len(set().union(*articles)) == 60
    assert len(split["train"]) > 80 and split["test"]


def change(entry: dict[str, Any], *path: str | int, to: Any = None) -> dict[str, Any]:
    """The entry with the value at `path` set, or taken away."""
    *parents, last = path
    place: Any = entry
    for key in parents:
        place = place[key]
    if to is None:
        del place[last]
    else:
        place[last] = to
    return entry


STEP = ("methods", 1, "steps", 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "line 3 is no JSON object; VGSI has one article a line"),
        ('{"file_id": ', "line 3 is no JSON: Expecting value"),
        (json.dumps(change(article(1), "file_id")), "line 3 has no 'file_id'"),
        (json.dumps(change(article(1), "methods")), "line 3 has no 'methods'"),
        (json.dumps(change(article(1), "goal", to=7)), "line 3: 'goal' is a int, not a str"),
        (json.dumps(change(article(1), "methods", 1, "steps")), r"line 3, methods\[1\] has no 'steps'"),
        (json.dumps(change(article(1), *STEP, "step_id")), r"line 3, methods\[1\]\.steps\[0\] has no 'step_id'"),
        (json.dumps(change(article(1), *STEP, to="stir")), r"line 3, methods\[1\]\.steps\[0\] has no 'step_id'"),
        (json.dumps(article(0)), "line 3: the article 1000 came before, in line 1"),
    ],
)
def test_another_format_is_named_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    """53,000 lines: "KeyError: 'steps'" helps nobody."""
    path, images = write_vgsi(tmp_path, [article(0)])
    path.write_text(path.read_text() + "\n" + text + "\n")
    with pytest.raises(UserError, match=message) as caught:
        sets_of((path, images))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    """A wrong path, a folder, and pictures in place of the text."""
    path, images = write_vgsi(tmp_path, [article(0)])
    with pytest.raises(UserError, match=r"nothing\.json' does not exist; the file of VGSI is named Wikihow"):
        sets_of((tmp_path / "nothing.json", images))
    for wrong in (images, images / "0" / "1000_0_0.png"):
        with pytest.raises(UserError, match="cannot be read as text"):
            sets_of((wrong, images))
    with pytest.raises(UserError, match="is no folder"):
        sets_of((path, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split 'dev' is not one of"),
        ({"min_steps": 1}, "min-steps is 1"),
        ({"min_steps": 4, "max_steps": 3}, "max-steps is 3"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, object], message: str) -> None:
    """Each would else make no set, or sets of one."""
    with pytest.raises(UserError, match=message):
        sets_of(write_vgsi(tmp_path, [article(0)]), **options)
