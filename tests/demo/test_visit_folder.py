"""Nothing is kept after a visit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from m2m.demo.visit_folder import GRADIO_FOLDER, VisitFolder, demo_folder


def test_all_goes_with_the_demo_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that crashed would leave every visitor's pictures in /tmp."""
    monkeypatch.setenv(GRADIO_FOLDER, "before")
    with pytest.raises(ZeroDivisionError), demo_folder() as folder:
        assert os.environ[GRADIO_FOLDER] == str(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (VisitFolder(folder).path / "image.png").write_bytes(b"image")
        raise ZeroDivisionError
    assert not folder.exists()
    assert os.environ[GRADIO_FOLDER] == "before"


def test_a_visit_takes_its_own_files_only(tmp_path: Path) -> None:
    """Two visitors at once: the one who leaves must not take the other's pictures along."""
    first, second = VisitFolder(tmp_path), VisitFolder(tmp_path)
    for visit in (first, second):
        (visit.path / "image.png").write_bytes(b"image")
    first.close()
    first.close()  # the page may close twice
    assert not first.path.exists()
    assert (second.path / "image.png").exists()
