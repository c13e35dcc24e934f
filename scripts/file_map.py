"""The file map of README.md: one line for every file, taken from what the file says of itself.

A Python file's line is the first of its docstring, that of a script or config its first comment. Files that cannot say
anything (data, licences) are described below. `make format` rewrites the map, `make check` fails if it is stale.

Example:
    python scripts/file_map.py [--check]
"""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- file map: written by scripts/file_map.py -->\n", "<!-- end of file map -->\n"

# Pattern -> line. Files that share a pattern share the line, under the pattern's name.
DESCRIBED = {
    ".gitignore": "What git leaves alone: environments, caches, runs, results.",
    "CHANGELOG.md": "What a user notices, by version.",
    "CONTRIBUTING.md": "How to work on it: commands, words, who imports whom, habits.",
    "LICENSE": "Apache-2.0.",
    "LOG.md": "Results by date with their commands, negative ones too.",
    "NOTICE": "Whose drawings and weights are bundled, under which licence.",
    "README.md": "This file.",
    "pyproject.toml": "Package, dependencies, extras, and the settings of pytest, ruff, mypy and import-linter.",
    "docs/images/*": "Pictures of the pages and of this file.",
    "examples/quickstart.ipynb": "The Python interface in a notebook; a test runs it top to bottom.",
    "src/m2m/demo/examples/*": "Pictures that a visitor of the page may begin with.",
    "tests/messages.txt": "Every message that a user can meet; written by tests/messages.py.",
    "examples/views/*": "An object of the miniature, for `m2m views`.",
    "examples/sets/*": "Given pictures for `make demo`, a folder for each set.",
    "docs/image_sets.md": "How image sets are made: captions, shards, many machines, real pictures, reading.",
    "docs/training.md": "How models are trained: eight GPUs, one, a laptop; settings, checkpoints, signals, plans.",
    "src/m2m/data/captions/assets/bpe_simple_vocab_16e6.txt.gz": "The vocabulary of CLIP's tokenizer.",
    "src/m2m/data/captions/assets/LICENSE-CLIP.txt": "Its licence, MIT.",
    "tests/data/captions/cc12m_form.tsv": "Captions in the form of Conceptual 12M, with the faults of real files.",
    "tests/data/captions/cc12m_form.md": "Where they come from.",
    "src/m2m/data/worlds/assets/*.zip": "The drawings, one archive for each artist.",
    "src/m2m/data/worlds/assets/*.tsv": "Subjects and categories: code points, names, who drew them.",
    "src/m2m/data/worlds/assets/ATTRIBUTION.md": "The artists and their licences.",
    "src/m2m/py.typed": "Says that the package has types.",
    "src/m2m/weights/tiny-self/*": "The shipped tiny M2M-Self, a diffusers pipeline in half precision.",
    "src/m2m/weights/tiny-dino/*": "The shipped tiny M2M-DINO, on the autoencoder of tiny-self.",
    "src/m2m/weights/tiny-novel-view/*": "The shipped tiny model of novel views, what tiny-self lacks of it.",
    "src/m2m/weights/probe-mini/*": "The probe of the mini world, which judges generated images.",
}


def main() -> int:
    """Rewrite the map, or with --check only compare. Returns the exit code."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    fresh = before + BEGIN + file_map() + END + after
    if "--check" in sys.argv[1:]:
        if fresh != text:
            print("README.md: the file map is stale; `make format` rewrites it", file=sys.stderr)
        return int(fresh != text)
    readme.write_text(fresh, encoding="utf-8")
    return 0


def file_map() -> str:
    """The map as Markdown: a list for each folder."""
    lines = {}
    for path in tracked_files():
        name, line = describe(path)
        lines[name] = line
    names = sorted(lines, key=lambda name: (folder_of(name), name))
    parts = []
    for folder, group in groupby(names, key=folder_of):
        entries = [f"- `{name.removeprefix(folder)}` {lines[name]}" for name in group]
        parts.append(f"**{folder or 'At the top'}**\n\n" + "\n".join(entries) + "\n")
    return "\n".join(parts)


def folder_of(name: str) -> str:
    return name[: name.rfind("/") + 1]


def tracked_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


def describe(path: str) -> tuple[str, str]:
    """A file's name in the map (its pattern, if it has one) and its line."""
    for pattern, line in DESCRIBED.items():
        if fnmatch(path, pattern):
            return pattern, line
    text = (ROOT / path).read_text(encoding="utf-8")
    line = first_of_docstring(text) if path.endswith(".py") else first_comment(text)
    if not line:
        raise SystemExit(f"{path} says nothing of itself: give it a docstring or comment, or a line in DESCRIBED")
    return path, line


def first_of_docstring(text: str) -> str:
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def first_comment(text: str) -> str:
    comments = (line[1:].strip() for line in text.splitlines() if line.startswith("#") and not line.startswith("#!"))
    return next(comments, "")


if __name__ == "__main__":
    sys.exit(main())
