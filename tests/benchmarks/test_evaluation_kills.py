"""The benchmark that kills generation: that it sees what it is there to see."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from m2m.checkpoint import STAGING_SUFFIX

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A folder that holds what the undisturbed one holds: two sets of two images."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as for a script: its neighbours are imported by their bare names
    module = import_module("evaluation_kills")
    for number in range(4):
        place = tmp_path / "undisturbed" / f"00000{number // 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"00{number % 2}.png").write_bytes(b"image %d" % number)
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "killed")
    return module.Folder(tmp_path / "killed", module.digests(tmp_path / "undisturbed"))


def test_a_folder_that_is_as_it_should_be(watched: Any) -> None:
    """Guards against a benchmark that misses something in every run, whose misses would not be believed."""
    assert watched.look() == 2
    watched.last_look()
    assert watched.misses == []


def test_a_torn_set_and_another_one_are_noticed(watched: Any) -> None:
    """Guards against a count of folders alone: half a set is a folder too."""
    (watched.path / "000000" / "001.png").unlink()
    (watched.path / "000001" / "000.png").write_bytes(b"another image")
    watched.look()
    assert len(watched.misses) == 2 and all("is not whole, or not" in miss for miss in watched.misses)


def test_a_lost_set_and_one_that_was_made_twice_are_noticed(watched: Any) -> None:
    """Guards against work that is lost, or done again, after every kill."""
    watched.look()
    shutil.rmtree(watched.path / "000000")
    (watched.path / "000001" / "new.png").write_bytes(b"")
    watched.look()
    assert ["set 000000 was there" in miss or "set 000001 was there" in miss for miss in watched.misses] == [True] * 2


def test_what_is_left_over_is_noticed(watched: Any) -> None:
    """Guards against folders that fill with the halves of killed processes."""
    (watched.path / f".000001.12345678{STAGING_SUFFIX}").mkdir()
    watched.look()
    assert watched.misses == []
    watched.last_look()
    assert len(watched.misses) == 1 and "differ from the undisturbed" in watched.misses[0]
