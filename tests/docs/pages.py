"""What a page of Markdown shows: blocks of code, their commands, and how a comment above a block has it run.

<!-- not run: needs 8 GPUs -->             its commands are parsed, not run
<!-- run with: --steps 1 -->               what is added to each of its `m2m` lines
<!-- run with: 300 -> 9; --test 20 -> --test 2 -->     what is replaced before it is run
<!-- run as: ... -->                       lines that are run in its place
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SHELL, PYTHON, OTHER = "shell", "python", "other"
LANGUAGES = {"sh": SHELL, "bash": SHELL, "shell": SHELL, "console": SHELL, "python": PYTHON, "py": PYTHON}
FIRST_WORDS = ("m2m", ".venv/bin/m2m", "python", "make", "accelerate", "torchrun", "pip", "git", "cp", "hf", "$")
DIRECTIVE = re.compile(r"<!--\s*(not run|run with|run as):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code. line: where it begins, from 1. directive: "", "not run", "run with" or "run as"; its value."""

    page: Path
    line: int
    kind: str
    text: str
    directive: str = ""
    value: str = ""

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    def to_run(self) -> str:
        """Its text as a test runs it; empty for what is not run."""
        if self.directive == "not run":
            return ""
        if self.directive == "run as":
            return self.value
        if " -> " in self.value:
            return replaced(self.text, self.value, self.where)
        return "\n".join(" ".join([*map(shlex_quoted, words), self.value]).strip() for words in commands(self.text))


def shlex_quoted(word: str) -> str:
    """Quoted where the shell would split it; a pattern such as *.png stays one."""
    return word if re.fullmatch(r"[\w@%+=:,./*\[\]-]+", word) else shlex.quote(word)


def replaced(text: str, pairs: str, where: str) -> str:
    for pair in pairs.split(";"):
        old, new = (part.strip() for part in pair.split(" -> "))
        assert old in text, f"{where}: '{old}', which a comment replaces, is not in the block"
        text = text.replace(old, new)
    return text


def blocks(page: Path) -> list[Block]:
    """All blocks of a page: fenced ones, and those that are indented by four spaces behind a blank line."""
    text = page.read_text(encoding="utf-8")
    fence = r"^```(?P<language>\w*)\n(?P<fenced>.*?)^```$"
    indented = r"(?<=\n\n)(?P<indented>(?: {4}[^\n]*\n|\n(?= {4}))+)"
    comment = r"(?:^(?P<comment><!--(?:(?!-->).)*-->)\s*\n)?"
    found = re.finditer(rf"{comment}(?:{fence}|{indented})", text, re.DOTALL | re.MULTILINE)
    return [_block(page, text, one) for one in found]


def _block(page: Path, text: str, found: re.Match[str]) -> Block:
    body = found["fenced"]
    if body is None:
        body = re.sub(r"^ {4}", "", found["indented"], flags=re.MULTILINE)
    kind = LANGUAGES.get(found["language"] or "", OTHER) if found["indented"] is None else _guessed(body)
    said = DIRECTIVE.fullmatch((found["comment"] or "").strip())
    line = text[: found.start()].count("\n") + 1
    return Block(page, line, kind, body, *(said.groups() if said else ("", "")))


def _guessed(body: str) -> str:
    first = body.split()[0]
    return SHELL if first in FIRST_WORDS else PYTHON if first in ("from", "import") else OTHER


def commands(text: str) -> list[list[str]]:
    """The words of each command: continued lines joined, comments dropped; of a session with `$`, what was typed."""
    lines = text.replace("\\\n", " ").splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")] or lines
    return [words for line in typed if (words := shlex.split(line, comments=True))]


def printed(text: str) -> list[str]:
    """What a session with `$` shows as the answer; "..." stands for more of it."""
    lines = text.splitlines()
    return [line for line in lines if not line.startswith("$ ") and line != "..."] if text.startswith("$ ") else []


def inline_commands(page: Path) -> list[str]:
    """What stands in running text as `m2m ...`."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?<!`)`(m2m [^`]+)`(?!`)", text)
    return [" ".join(one.split()) for one in found]


def links(page: Path) -> list[str]:
    """Targets of links and pictures that are files, without their anchors."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.split("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)]
