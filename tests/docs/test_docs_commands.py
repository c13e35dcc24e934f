"""The documentation: every command in it is run at a tiny size, and what cannot be run here is parsed at least.

A page is a session in one folder: what a command makes is there for the next. `tests/docs/pages.py` says how a page
marks what is not run, and what is run smaller.
"""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2m.cli.main import main
from tests.docs.checking import M2M, check, check_inline
from tests.docs.pages import PAGES, PYTHON, ROOT, SHELL, Block, blocks, commands, inline_commands, links, printed

SHOWN = [*PAGES, ROOT / "README.md"]
BLOCKS = {page: blocks(page) for page in SHOWN}
RUNNABLE = [page for page in PAGES if any(block.kind != "other" and block.to_run() for block in BLOCKS[page])]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what a clone has and pages name; what commands write stays here."""
    for name in ("benchmarks", "configs", "examples", "recipes", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    yield tmp_path


def run_shell(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands, one after the other; and what a session shows as the answer is in it."""
    for words in commands(block.to_run()):
        if words[0] in M2M:
            words = [name for word in words[1:] for name in sorted(glob.glob(word)) or [word]]
            assert main(words) == 0, f"{block.where}: m2m {' '.join(words)}: {capsys.readouterr().err}"
        else:
            subprocess.run(words, check=True, timeout=60)
    answer = capsys.readouterr().out
    for line in printed(block.text):
        assert line in answer, f"{block.where}: not in the answer any more: {line}"


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_done(page: Path, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a page that was right once. A reader who follows it word for word must get to its end."""
    space: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        if block.kind == SHELL:
            run_shell(block, capsys)
        elif block.kind == PYTHON and (text := block.to_run() if block.directive else block.text):
            exec(compile(text, block.where, "exec"), space)


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_no_command_names_what_is_not_there(page: Path) -> None:
    """Bug: an option, setting, extra, script or target that was renamed, in a command that no test can run."""
    for block in BLOCKS[page]:
        for words in commands(block.text) if block.kind == SHELL else []:
            try:
                check(words)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{block.where}: {' '.join(words)}: {type(error).__name__}: {error}")
    for text in inline_commands(page):
        check_inline(text)


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Bug: a link that the site mends and GitHub does not."""
    missing = [target for target in links(page) if not (page.parent / target).exists()]
    assert missing == []


def test_what_is_not_run_says_why() -> None:
    """Bug: a block that nobody runs because a comment is misspelt, or whose reason is left out."""
    for page in SHOWN:
        text = page.read_text(encoding="utf-8")
        marked = sum(text.count(f"<!-- {words}:") for words in ("not run", "run with", "run as"))
        assert marked == sum(bool(block.directive) for block in BLOCKS[page]), page.name
        assert all(len(block.value) > 5 for block in BLOCKS[page] if block.directive), page.name
