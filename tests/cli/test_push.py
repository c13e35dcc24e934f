"""`m2m push` as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2m.cli.main import main
from tests.cli.running import environment, one_error_line


def test_to_writes_the_folder_and_uploads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who wants to look before anybody else does; with the hub out of reach."""
    assert main(["push", "tiny-self", "jane/tiny", "--to", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"written, nothing uploaded: {tmp_path / 'out'}"
    listed = {line.split()[-1] for line in lines[:-1]}
    assert listed == {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")} | {"NOTICE"}
    assert main(["push", str(tmp_path / "out"), "jane/again", "--licence", "mit", "--data", "x", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "a dry run: nothing kept, nothing uploaded"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tiny-self", "cats"], "repository 'cats' must be owner/name"),
        (["tiny-self", "jane/c--ats"], "repository 'jane/c--ats' is no name for the hub"),
        (["tiny-slef", "jane/cats", "--dry-run"], "model 'tiny-slef' does not exist"),
        (["tiny-self", "jane/cats", "--evaluation", "nowhere", "--dry-run"], "result.json' does not exist"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Found before anything is copied or asked of the hub."""
    assert main(["push", *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("m2m: ") and errors.count("\n") == 1 and expected in errors


@pytest.mark.parametrize(
    ("token", "expected"), [("", "you are not logged in to the hub"), ("hf_x", "the hub cannot be reached")]
)
def test_no_login_and_no_network(token: str, expected: str, tmp_path: Path) -> None:
    """An hour of upload that ends in a traceback; a temporary copy of the weights that stays."""
    (tmp_path / "temporary").mkdir()
    own = {"HF_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "temporary"), "HF_TOKEN": token}
    result = subprocess.run(
        [sys.executable, "-m", "m2m", "push", "tiny-self", "jane/cats"],
        capture_output=True,
        text=True,
        env=environment() | own,
        timeout=600,
    )
    result.stdout = "" if token else result.stdout  # the list of files comes before the upload
    assert expected in one_error_line(result)
    assert os.listdir(tmp_path / "temporary") == []
