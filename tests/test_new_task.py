"""recipes/new_task.md: the very files that it shows make data, train a third task, and sample from it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from m2m.cli.main import main

TEXT = (Path(__file__).parents[1] / "recipes" / "new_task.md").read_text(encoding="utf-8")
SHORT = ["steps=3", "cooldown_steps=1", "warmup_steps=1", "batch_sets=2", "validate_every=2", "sample_every=3"]
SHORT += ["validation_sets=2", "sample_steps=2", "log_every=1", "tracker=none"]


def files_of(text: str) -> dict[str, str]:
    """The files that the page shows whole: a name in bold, and the block below it."""
    return dict(re.findall(r"\*\*`([\w.]+)`\*\*\n\n```\w+\n(.*?)```", text, re.DOTALL))


def commands_of(text: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line.split() for block in blocks for line in block.splitlines()]


def test_the_page_s_own_files_train_a_third_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a page whose example was right once; or a third task that needs a change of the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = files_of(TEXT)
    assert sorted(files) == ["ask.py", "hour_of_day.py", "hour_of_day.yaml", "skies.py"]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    for words in commands_of(TEXT):
        if words[0] == "python":
            monkeypatch.setattr(sys, "argv", [words[1], "3"])
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert main([*words[1:], *(SHORT if words[1] == "train" else [])]) == 0
    assert Image.open("runs/hour-of-day/samples/samples-00000003.png").width > 9 * 64
    asked = files["ask.py"].replace("num_images=3", "num_images=3, num_inference_steps=2")
    exec(compile(asked, "ask.py", "exec"), {"__name__": "__main__"})
    made = [Image.open(f"made-{hour}.png").tobytes() for hour in ("06", "18", "00")]
    assert len(set(made)) == 3


def test_the_page_s_hours_go_round() -> None:
    """Bug: a clock whose midnight lies far from its last hour."""
    space: dict[str, object] = {}
    exec(compile(files_of(TEXT)["hour_of_day.py"], "hour_of_day.py", "exec"), space)
    hours = space["HourOfDay"]().conditions(torch.arange(24)[None], None)[0]  # type: ignore[operator]
    steps = (hours - hours.roll(1, 0)).norm(dim=1)
    assert (steps - steps[0]).abs().max() < 1e-5 and hours.norm(dim=1).sub(1).abs().max() < 1e-5
