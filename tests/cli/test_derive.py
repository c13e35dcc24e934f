"""`m2m derive` as a user calls it: from a fine-tuned pipeline to the part that its base does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.cli.main import main
from tests.cli.sampling import images_in, save_pictures, save_task_model
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of procedures and the base that it shares its U-Net with."""
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline().save_pretrained(folder / "base")
    return save_task_model(folder / "task", "position"), folder / "base"


def derive(model: Path, base: Path, out: Path) -> int:
    return main(["derive", str(model), "--base", str(base), "--out", str(out)])


def test_the_derived_model_makes_the_images_of_the_whole_one(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shipped must be what was measured; here but for the rounding to float16 of a random model."""
    task, base = folders
    assert derive(task, base, tmp_path / "small") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("kept ") and lines[0].endswith(f" MB: {tmp_path / 'small'}")
    assert lines[1].startswith(f"shared with {base}: ")
    assert size(tmp_path / "small") < 0.2 * size(task)
    steps = save_pictures(tmp_path, 2)
    for model in (task, tmp_path / "small"):
        options = ["--model", str(model), "--out", str(tmp_path / f"of-{model.name}"), "-n", "1", "--steps", "2"]
        assert main(["continue", *steps, *options, "--guidance", "1"]) == 0
    whole, small = (images_in(tmp_path / f"of-{name}").astype(int) for name in ("task", "small"))
    assert np.abs(whole - small).max() <= 4


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_mistakes_are_one_line_and_leave_nothing(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo in the base, or a folder of other things as the place to write to."""
    task, base = folders
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    before = sorted(tmp_path.rglob("*"))
    for expected, (model, original, out) in {
        "is there already: name a new folder": (task, base, tmp_path / "full"),
        "does not exist": (task, tmp_path / "bse", tmp_path / "out"),
        "is no saved pipeline": (tmp_path / "full", base, tmp_path / "out"),
    }.items():
        assert derive(model, original, out) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("m2m: ") and errors.count("\n") == 1 and expected in errors
    assert sorted(tmp_path.rglob("*")) == before
