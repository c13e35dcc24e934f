"""The recipes: what they would run is what the commands take."""

from __future__ import annotations

import os
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from m2m.cli.main import build_app
from m2m.config import load_config
from m2m.tasks.known import TASKS
from m2m.training.image_sets import TrainConfig

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
RUNS = [
    ("sd21_8xa100", {}),
    ("sd21_8xa100", {"VARIANT": "dino"}),
    ("sd21_8xa100", {"SIZE": "256", "GPUS": "2"}),
    ("sd21_8xa100", {"VARIANT": "dino", "SIZE": "256"}),
    ("sd21_one_gpu", {}),
    ("sd21_one_gpu", {"TRAINABLE": "lora"}),
    ("sd21_one_gpu", {"VARIANT": "dino", "TRAINABLE": "lora"}),
]


def dry_run(recipe: str, settings: dict[str, str], data: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DRY_RUN": "1", "M2M": "m2m", "ACCELERATE": "accelerate", "DATA": str(data)}
    command = ["bash", str(ROOT / "recipes" / f"{recipe}.sh")]
    return subprocess.run(command, capture_output=True, text=True, env={**environment, **settings}, timeout=60)


def commands(printed: str) -> list[list[str]]:
    lines = printed.splitlines()
    assert lines and all(line.startswith("+ ") for line in lines)
    return [shlex.split(line[2:]) for line in lines]


def parsed(words: list[str]) -> dict[str, object]:
    """The parameters of `m2m WORDS`, as the command would get them. Raises for an option that it does not have."""
    command = typer.main.get_command(build_app(words))
    while hasattr(command, "commands"):  # a group
        command, words = command.commands[words[0]], words[1:]
    return command.make_context("m2m", words).params


def own_words(words: list[str]) -> list[str]:
    """What `m2m` is given, whoever starts it."""
    start = words.index("m2m.cli") if words[0] == "accelerate" else words.index("m2m")
    return words[start + 1 :]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_bash_that_can_be_run(path: Path) -> None:
    """Bug: a quote that is never closed, found behind hours of work; or a file that the shell may not run."""
    result = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(("recipe", "settings"), RUNS)
def test_every_command_of_a_dry_run_is_one_that_m2m_takes(
    recipe: str, settings: dict[str, str], tmp_path: Path
) -> None:
    """Bug: an option that a command has lost, met after days of making data; or a dry run that does something."""
    result = dry_run(recipe, settings, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    asked = [own_words(words) for words in commands(result.stdout)]
    assert [words[0] for words in asked][-2:] == ["train", "train"] and "init" in {words[0] for words in asked}
    for words in asked:
        given = parsed(words)
        if words[0] == "train":
            config = load_config(TrainConfig, ROOT / str(given["config"]), given["overrides"])
            assert config.variant == settings.get("VARIANT", "self")
            assert config.trainable == settings.get("TRAINABLE", config.trainable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{}, {"TASK": "novel_view", "STEPS": "40"}, {"SCRATCH": "1"}])
def test_the_tasks_are_fine_tuned_on_what_was_made_for_them(settings: dict[str, str], tmp_path: Path) -> None:
    """Bug: an option that a command has lost; a task on the other one's data; or a model that is asked for nothing."""
    result = dry_run("tiny_tasks", {**settings, "RUNS": str(tmp_path / "runs")}, tmp_path / "data")
    assert (result.returncode, result.stderr) == (0, "") and list(tmp_path.iterdir()) == []
    asked = [own_words(words) for words in commands(result.stdout)]
    made, tasks = set(), []
    for words in asked:
        given = parsed(words)
        made.add(str(given.get("out")))
        if words[0] == "train":
            config = load_config(TrainConfig, ROOT / str(given["config"]), given["overrides"])
            assert {config.data, config.validation} <= made
            assert config.from_scratch == ("SCRATCH" in settings)
            assert config.steps == int(settings.get("STEPS", config.steps)) > config.cooldown_steps
            tasks.append((config.task, config.export))
        elif words[0] in ("views", "continue"):
            wanted = {"views": "novel_view", "continue": "visual_procedure"}[words[0]]
            assert tasks[-1] == (wanted, given["model"])
    assert [task for task, _ in tasks] == ([settings["TASK"]] if "TASK" in settings else list(TASKS))


def test_what_is_made_is_what_the_next_command_reads(tmp_path: Path) -> None:
    """Bug: training reads another folder than the one that was encoded; or latents of another size."""
    for size in ("512", "256"):
        printed = dry_run("sd21_8xa100", {"VARIANT": "dino", "SIZE": size}, tmp_path).stdout
        asked = [own_words(words) for words in commands(printed)]
        (made,) = [parsed(words) for words in asked if words[0] == "init"]
        encoded = [parsed(words) for words in asked if words[:2] == ["data", "encode"]]
        assert len(encoded) == 8 and {str(one["model"]) for one in encoded} == {str(made["out"])}
        assert made["size"] == int(size)
        for words in asked[-2:]:
            config = load_config(TrainConfig, ROOT / words[words.index("--config") + 1], parsed(words)["overrides"])
            assert (config.base, config.data) == (str(made["out"]), str(encoded[0]["out"]))


def test_many_processes_are_launched_as_accelerate_wants_it(tmp_path: Path) -> None:
    """Bug: an option of accelerate that is gone, or a module that is none."""
    from accelerate.commands.launch import launch_command_parser

    words = commands(dry_run("sd21_8xa100", {}, tmp_path).stdout)[-1]
    launched = launch_command_parser().parse_args(words[2:])
    assert (launched.num_processes, launched.multi_gpu, launched.module) == (8, True, True)
    assert launched.training_script == "m2m.cli" and find_spec("m2m.cli.__main__")


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("sd21_8xa100", {"VARIANT": "both"}),
        ("sd21_8xa100", {"SIZE": "64"}),
        ("sd21_one_gpu", {"TRAINABLE": "all"}),
        ("tiny_tasks", {"TASK": "views"}),
    ],
)
def test_unknown_choices_stop_before_anything_is_done(recipe: str, settings: dict[str, str], tmp_path: Path) -> None:
    """Bug: a misspelt VARIANT trains the other model for four days."""
    result = dry_run(recipe, settings, tmp_path)
    assert result.returncode == 2 and result.stdout == "" and next(iter(settings)) in result.stderr


@pytest.mark.parametrize("task", list(TASKS))
def test_the_head_of_a_task_s_config_makes_its_data(task: str) -> None:
    """Bug: commands in a comment that a command has outgrown, or that make another folder than is read below."""
    path = ROOT / "configs" / "sd21" / f"{task}.yaml"
    lines = [line.removeprefix("#   ") for line in path.read_text().splitlines() if line.startswith("#   m2m data")]
    asked = [parsed(own_words(shlex.split(line.split("  (")[0]))) for line in lines]
    config = load_config(TrainConfig, path)
    made = [str(given["out"]) for given in asked]
    assert len(made) == 3 and {config.data, config.validation} <= set(made)
    (encoded,) = [given for given in asked if "model" in given]
    assert str(encoded["model"]) == config.base and str(encoded["out"]) == config.data
