"""Folders of ordered pictures as procedures."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.data.real_sets import FolderOptions, StepSets
from m2m.data.real_sets.steps import missing_step
from m2m.types import UserError
from tests.data.real_sets.samples import save_photograph, truncate


def steps_of(folder: Path, **options: object) -> StepSets:
    return StepSets(FolderOptions(folder, **{"size": 16, **options}))  # type: ignore[arg-type]


def procedure(folder: Path, names: str) -> Path:
    for seed, name in enumerate(names.split()):
        save_photograph(folder / name, seed=seed)
    return folder


def test_steps_are_in_natural_order_under_the_name_of_the_folder(tmp_path: Path) -> None:
    """Step 10 after step 9, whatever the names' lengths."""
    names = [f"{number}.png" for number in range(1, 12)]
    procedure(tmp_path / "burger", " ".join(names))
    (plan,) = steps_of(tmp_path).sets(0, 9)
    assert plan.meta["files"] == [f"burger/{name}" for name in names] and plan.meta["caption"] == "burger"


def test_a_missing_step_is_named(tmp_path: Path) -> None:
    """A gap teaches that two things happen at once."""
    procedure(tmp_path / "train", "00.png 01.png 03.png")
    procedure(tmp_path / "whole", "00.png 01.png")
    with pytest.raises(UserError, match=r"train' has no step 2 between '01\.png' and '03\.png'.*--broken skip"):
        steps_of(tmp_path)
    left = steps_of(tmp_path, skip_broken=True)
    assert [plan.meta["folder"] for plan in left.sets(0, 9)] == ["whole"]
    assert [file.name for file in left.refused] == ["train/"]


def test_a_broken_step_leaves_out_its_procedure(tmp_path: Path) -> None:
    """As pictures of a set, the others would close up; as steps they are no procedure any more, first and last too."""
    for name in ("first", "last", "whole"):
        procedure(tmp_path / name, "0.png 1.png 2.png")
    truncate(tmp_path / "first" / "0.png")
    truncate(tmp_path / "last" / "2.png")
    with pytest.raises(UserError, match="2 pictures cannot be used"):
        steps_of(tmp_path)
    assert [plan.meta["folder"] for plan in steps_of(tmp_path, skip_broken=True).sets(0, 9)] == ["whole"]


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        ("0, 1, 2", None),
        ("1, 2, 3", None),
        ("step_1, Step_2", None),
        ("step 1a, step 2a, step 4a", "no step 3 between 'step 2a.png' and 'step 4a.png'"),
        ("0, 2", "no step 1 between"),
        ("IMG_2031, IMG_2040", None),
        ("a1, b3", None),
        ("knead, bake, eat", None),
        ("2024-05-01, 2024-05-03", None),
        ("1, 01, 2", "two pictures of one step: '1.png' and '01.png'"),
    ],
)
def test_which_names_number_steps(names: str, wrong: str | None) -> None:
    """Photographs that are numbered by a camera, and names in words, must not be refused."""
    found = missing_step([f"{name}.png" for name in names.split(", ")])
    assert found is None if wrong is None else found is not None and wrong in found


def test_fewer_than_two_steps_are_none(tmp_path: Path) -> None:
    """From one picture there is nothing to continue."""
    procedure(tmp_path / "alone", "0.png")
    with pytest.raises(UserError, match="no sub-folder with at least 2"):
        steps_of(tmp_path, min_images=1)
    procedure(tmp_path / "long", "0.png 1.png 2.png 3.png")
    sets = steps_of(tmp_path, min_images=1, max_images=3)
    assert [plan.images for plan in sets.sets(0, 9)] == [3] and sets.small == {"alone": 1}
