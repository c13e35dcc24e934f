"""`m2m data objects`: the miniature of Objaverse."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.running import run_m2m
from tests.cli.test_data_real_sets import m2m, stored


def test_objects_are_drawn_and_read(tmp_path: Path) -> None:
    """Bug: pybullet's own lines on the terminal; a miniature that the command for the real data cannot read."""
    pytest.importorskip("pybullet")
    views, shards = tmp_path / "views", tmp_path / "shards"
    arguments = ("--split", "test", "--size", "16", "--views", "3", "--count", "2")
    result = run_m2m("data", "objects", *arguments, "--out", views)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"2 objects of 3 views, 2 of them new: {views}\n"
    assert m2m("data", "objaverse", views, "--out", shards, "--size", "16") == 0
    assert [(meta["object"], len(pictures)) for meta, pictures in stored(shards)] == [("004", 3), ("009", 3)]


def test_without_pybullet_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a traceback, or an empty folder."""
    monkeypatch.setitem(sys.modules, "pybullet", None)
    monkeypatch.setitem(sys.modules, "pybullet_data", None)
    assert m2m("data", "objects", "--out", tmp_path / "views") == 2
    assert capsys.readouterr().err.endswith("needs pybullet: pip install 'm2m-diffusion[nvs]'\n")
    assert not (tmp_path / "views").exists()


@pytest.mark.parametrize("command", ["objects", "objaverse"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a command whose module cannot be imported shows only when it is called."""
    assert m2m("data", command, "--help") == 0
    told = capsys.readouterr().out
    assert f"m2m data {command}" in told and "Example:" in told
