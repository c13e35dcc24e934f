"""Whether a command of a page could be given: its name, options, settings, extras, scripts and targets exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import typer

from m2m.cli.main import COMMANDS, build_app
from m2m.config import load_config
from m2m.training.image_sets import TrainConfig
from tests.docs.pages import ROOT
from tests.test_recipes import own_words, parsed

M2M = ("m2m", ".venv/bin/m2m")
LAUNCHERS = ("accelerate", "torchrun")
PLAIN = ("cd", "git", ".", "cp", "export", "hf")  # of the shell, or of everybody's machine


def check(words: list[str]) -> None:
    """Raises for a command that cannot be given as it stands."""
    words = words[next(i for i, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=.*", word)) :]  # VARIABLE=value
    name = words[0]
    if name in M2M or name in LAUNCHERS:
        check_m2m(own_words(["m2m", *words[1:]] if name in M2M else ["accelerate", *words[1:]]))
    elif name == "make":
        check_targets(words[1:])
    elif name.startswith("python") and words[1].endswith(".py"):
        check_script(ROOT / words[1], words[2:])
    elif name.startswith("recipes/"):
        assert (ROOT / name).is_file(), f"there is no {name}"
    elif name.split("/")[-1] == "pip":
        check_extras(words)
    else:
        assert name in PLAIN or words[:3] == [name, "-m", "venv"], f"what is '{name}'?"


def check_m2m(words: list[str]) -> None:
    if {"-h", "--help", "--version"} & set(words):
        assert command_of(words) is not None or words[0].startswith("-"), f"m2m has no command {words[0]}"
        return
    given = parsed(words)
    if words[0] == "train":
        config = given["config"]
        load_config(TrainConfig, ROOT / str(config) if config else None, given["overrides"])
        assert config is None or (ROOT / str(config)).is_file()


def command_of(words: list[str]) -> str | None:
    """The name of the command that these words begin with."""
    names = [command.name for command in COMMANDS]
    return next((name for name in names if words[: len(name.split())] == name.split()), None)


def options_of(name: str) -> set[str]:
    """All the options of `m2m NAME`."""
    words = name.split()
    command = typer.main.get_command(build_app(words))
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}


def check_inline(text: str) -> None:
    """A command within a sentence, which may leave out what it needs: its name and the names of its options."""
    words = text.split()[1:]
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version", "-h"), text
        return
    name = command_of(words)
    groups = {command.name.split()[0] for command in COMMANDS if " " in command.name}
    assert name or words[0] in groups, f"m2m has no command for `{text}`"
    options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert not name or options <= options_of(name), f"`{text}`: no such option"


def check_targets(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        variable = word.split("=")[0] if "=" in word else ""
        pattern = rf"^{variable} \?=" if variable else rf"^{re.escape(word)}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile has no {word}"


def check_script(path: Path, words: list[str]) -> None:
    source = path.read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word.split("=")[0]}"' in source, f"{path.name} has no option {word}"


def check_extras(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        named = re.fullmatch(r"(?:m2m-diffusion|\.)\[(.+)\]", word)
        missing = set(named[1].split(",") if named else ()) - set(project["optional-dependencies"])
        assert not missing, f"there is no extra {missing}"
