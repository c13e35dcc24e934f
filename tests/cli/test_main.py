"""`m2m` itself: the table of commands, help that answers at once, and how each way to end looks."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import m2m
from m2m.cli.main import COMMANDS, Command, main, split_example
from tests.cli.running import environment, run_m2m

NAMES = [command.name for command in COMMANDS]
HEAVY = ("torch", "diffusers", "transformers", "gradio", "numpy", "PIL")


def modules_loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after `code`."""
    report = "import sys; print('\\n'.join({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    script = f"{code}\n{report}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    return set(run.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["data", "--help"], [], ["no-such-command"]])
def test_help_and_version_load_no_heavy_library(arguments: list[str]) -> None:
    """One import at the top of a command module, and `m2m --help` takes four seconds."""
    loaded = modules_loaded_by(f"from m2m.cli.main import main; main({arguments})")
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_import_m2m_is_light_and_its_names_are_there() -> None:
    """diffusers looks classes up by `getattr(importlib.import_module("m2m"), name)` when it loads a saved pipeline."""
    assert not modules_loaded_by("import m2m") & {*HEAVY, "typer", "rich"}
    for name in m2m.__all__:
        assert getattr(importlib.import_module("m2m"), name) is not None
    assert m2m.M2MPipeline.__module__ == "m2m.pipeline"
    with pytest.raises(AttributeError, match="NoSuchName"):
        m2m.NoSuchName  # noqa: B018


def test_version_is_the_packages() -> None:
    """A version kept in two places drifts."""
    result = run_m2m("--version")
    assert (result.returncode, result.stdout) == (0, f"m2m {m2m.__version__}\n")
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["project"]["scripts"]["m2m"] == "m2m.cli.main:main"


def test_help_lists_every_command_with_its_whole_line() -> None:
    """A summary that is too long is cut off with dots in an 80-column terminal."""
    listed = "".join(run_m2m(*group, "--help").stdout for group in ([], ["data"], ["bench"]))
    for command in COMMANDS:
        assert command.name.split()[-1] in listed
        assert command.summary in listed


@pytest.mark.parametrize("name", NAMES)
def test_help_of_each_command_ends_with_an_example_of_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Help that lists options only leaves a reader to guess how they go together."""
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out.rstrip().splitlines()
    start = max(i for i, line in enumerate(shown) if line.strip().startswith("Example"))
    assert any(line.strip().startswith(f"m2m {name} ") for line in shown[start + 1 :])
    assert not any(line.strip().startswith("--") for line in shown[start + 1 :]), "options follow the example"


def test_an_example_keeps_its_lines_and_its_brackets() -> None:
    """Rewrapped, two example commands run into one; taken for markup, "[key=value]" vanishes."""
    text, example = split_example("Train it.\n\nMore [a=b].\n\nExample:\n  m2m train x\n  m2m train [y]")
    assert text == "Train it.\n\nMore [a=b]."
    assert example == "\b\nExample:\n  m2m train x\n  m2m train [y]"
    assert split_example("No example.") == ("No example.", None)


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_each_target_is_a_documented_function(command: Command) -> None:
    """A typo in the table shows only when that command is run."""
    module, function = command.target.split(":")
    found = getattr(importlib.import_module(module), function)
    assert inspect.isfunction(found) and found.__doc__


def test_a_dash_dash_before_the_command_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The command to load is read from the arguments before typer parses them; both must see the same one."""
    assert main(["--", "generate", "--help"]) == 0
    assert "m2m generate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generat"], "Did you mean 'generate'"),
        (["data", "buld"], "Did you mean 'build'"),
        (["generate", "a.png"], "--out"),
        (["generate", "a.png", "--out", "x", "-n", "many"], "-n"),
        (["generate", "a.png", "--out", "x", "--colour", "red"], "--colour"),
    ],
)
def test_a_wrong_call_exits_with_2_and_names_the_mistake(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts tell a mistake in the call from a failure by the exit code."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err and captured.out == ""


def test_a_user_error_is_one_line_even_if_a_name_has_a_newline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that holds one line an error must not be broken by a file name."""
    assert main(["generate", str(tmp_path / "a\nb.png"), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("m2m: ") and "does not exist" in captured.err


def test_a_disk_without_room_is_one_line(tmp_path: Path) -> None:
    """Bug: a traceback, and exit code 1, for a full disk. A limit on the size of files fails as one does."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); "
        "from m2m.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["data", "captions", "world:mini:train:50", "--out", str(tmp_path / "captions")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment())
    assert run.returncode == 2 and "cannot be written: File too large" in run.stderr, run.stderr
    assert not (tmp_path / "captions").exists()
