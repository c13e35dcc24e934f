"""Tiny pipelines of the two tasks as folders, and what the tests of the commands that make images share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.cli.running import environment
from tests.tiny import pictures, tiny_pipeline, tiny_task_model

DIMENSIONS = {"camera": 12, "position": 1}


def save_task_model(folder: Path, condition: str, **settings: Any) -> Path:
    """A pipeline at 64 x 64 pixels whose images have the condition of that name, as if fine-tuned."""
    default = "index" if condition == "position" else ""
    model = tiny_task_model(default=default, dim=DIMENSIONS[condition])
    model.register_to_config(condition={**model.config.condition, "name": condition})
    pipe = tiny_pipeline(model=model)
    pipe.register_to_config(**settings)
    pipe.save_pretrained(folder)
    return folder


def save_pictures(folder: Path, count: int) -> list[str]:
    """Files of random smooth pictures; their names."""
    names = [str(folder / f"{number}.png") for number in range(count)]
    for picture, name in zip(pictures(count), names, strict=True):
        picture.save(name)
    return names


def images_in(folder: Path) -> np.ndarray:
    """000.png, 001.png, ... of a result, [N, H, W, 3]."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("[0-9]*.png"))])


def record_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "generation.json").read_text())
    return found


def stop_while_sampling(number: signal.Signals, *command: str | Path) -> tuple[int, str]:
    """`m2m COMMAND` with a thousand images to make, stopped by a signal in the first: exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "m2m", *map(str, command)],
        stderr=subprocess.PIPE,
        env=environment() | {"FORCE_COLOR": "1"},  # shows the progress bar although stderr is no terminal
        # A job in the background (nohup, some CI) ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    shown = b""
    while b"image 1 of " not in shown:
        piece = process.stderr.read1()
        assert piece, shown.decode()
        shown += piece
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    return process.returncode, (shown + rest).decode()
