"""The site: it is built without a warning, its reference is fresh, and it loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = runpy.run_path(str(ROOT / "scripts" / "docs_links.py"))
REFERENCE = runpy.run_path(str(ROOT / "scripts" / "api_page.py"))


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs-material is not installed")
def test_the_site_is_built_without_a_warning_and_stands_alone(tmp_path: Path) -> None:
    """Bug: a page that no menu names, a link to nowhere, or a font of a server that learns who reads."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text())
        assert loaded == [], page.name


def test_the_reference_is_what_the_docstrings_say() -> None:
    """Bug: a page of last year's arguments. `python scripts/api_page.py` writes it anew."""
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == REFERENCE["page"]()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a third task](../recipes/new_task.md)", "a third task (`recipes/new_task.md`)"),
        ("[recipes/new_task.md](../recipes/new_task.md#data)", "`recipes/new_task.md`"),
        ("[`LOG.md`](../LOG.md)", "`LOG.md`"),
        ("[Train](training.md#one-gpu)", "[Train](training.md#one-gpu)"),
    ],
)
def test_files_outside_of_the_site_are_named_there(written: str, shown: str) -> None:
    """Bug: a link of the site to a file that only the repository has."""
    assert HOOK["on_page_markdown"](f"See {written}.") == f"See {shown}."
