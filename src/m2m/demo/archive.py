"""The ZIP of a visitor's results: pictures, a sheet, and the record and command that make the same again.

    000.png 001.png ...  grid.png  generation.json  given/00.png ...    and of views cameras.json, turnaround.gif

Each image that was made again with another seed is a run of its own, in a folder again-1/, again-2/, ..
"""

from __future__ import annotations

import hashlib
import json
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.data.animation import write_gif
from m2m.data.grids import given_and_generated
from m2m.data.pictures import to_square
from m2m.demo.desk import Run
from m2m.sampling_record import record, resolved
from m2m.tasks.cameras import Cameras

NAME = "m2m.zip"
CAMERAS = "cameras.json"
TURNAROUND = "turnaround.gif"
TURN_MILLISECONDS = 3000
GIF_SIDE = 256
GRID_CELL = 128  # pixels of a cell of the sheet: 64-pixel pictures are enlarged to it, larger ones stay as they are
# The options of the commands by the settings' names.
OPTIONS = {
    "num_images": "--num-images",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "window": "--window",
    "window_policy": "--window-policy",
    "scheduler": "--scheduler",
    "seed": "--seed",
}
# By condition: the command, what its guidance is called there, and the settings that it has no option for.
COMMANDS = {
    None: ("generate", "", ()),
    "camera": ("views", "--camera-guidance", ("num_images", "window_policy")),
    "position": ("continue", "--position-guidance", ("window_policy",)),
}


def write_archive(path: Path, runs: Sequence[Run], gif: bytes | None = None) -> Path:
    """Write the ZIP. gif: the turn-around of the first run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # what is in it is compressed already
        for number, run in enumerate(runs):
            folder = f"again-{number}/" if number else ""
            for name, content in run_files(run, gif if number == 0 else None):
                archive.writestr(folder + name, content)
    return path


def run_files(run: Run, gif: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """The files of one run: name and content."""
    shown = [run.images[number] for number in run.shown()]
    for number, image in enumerate(shown):
        yield f"{number:03d}.png", _png(image)
    given = {f"given/{number:02d}.png": _png(image) for number, image in enumerate(run.given)}
    yield from given.items()
    yield "grid.png", _png(_sheet(run.given, shown))
    if run.cameras is not None:
        yield CAMERAS, _json(_cameras(run.cameras))
    if gif is not None:
        yield TURNAROUND, gif
    yield "generation.json", _json(_record(run, given))


def command(run: Run, inputs: Sequence[str]) -> str | None:
    """What to type, in the folder of the record, to make the same again; None without given pictures, which the
    command line asks for."""
    if not inputs:
        return None
    chosen = resolved(run.settings, run.engine.pipe)
    condition = run.engine.pipe.model.condition
    name, condition_option, absent = COMMANDS[None if condition is None else _kind(run)]
    words = ["m2m", name, *inputs]
    if run.cameras is not None:
        words += ["--cameras", CAMERAS]
    for setting, option in OPTIONS.items():
        if setting not in absent and chosen[setting] is not None:
            words += [option, f"{chosen[setting]}"]
    lowest, highest = chosen["guidance_interval"]
    words += ["--guidance-interval", f"{lowest}:{highest}"]
    if condition_option:
        words += [condition_option, f"{chosen['condition_guidance_scale']}"]
    return shlex.join([*words, "--model", run.engine.name, "--out", "repeated"])


def turn_around(run: Run, folder: Path) -> bytes | None:
    """A GIF of the views in the order of their cameras, written in the folder; None for what is no turn.

    The one given picture is its first frame, for its camera is the first place of the orbit.
    """
    views = [run.images[number] for number in run.shown()]
    if run.cameras is None or len(views) < 2:
        return None
    side = views[0].width
    given = [to_square(image, side) for image in run.given] if len(run.given) == 1 else []
    frames = [*given, *views]
    path = folder / TURNAROUND
    write_gif(frames, path, TURN_MILLISECONDS // len(frames), side=GIF_SIDE)
    return path.read_bytes()


def _kind(run: Run) -> str | None:
    """Of which condition the run's own tab is; a model that needs to be told nothing may serve `m2m generate` too."""
    if run.cameras is not None:
        return "camera"
    return "position" if run.conditions is not None else None


def _record(run: Run, given: dict[str, bytes]) -> dict[str, Any]:
    inputs = [{"path": name, "sha256": hashlib.sha256(content).hexdigest()} for name, content in given.items()]
    made = record(inputs, run.engine.entry, run.settings, run.engine.pipe)
    if run.cameras is not None:
        made["cameras"] = _cameras(run.cameras)
        made["order"] = list(run.order or ())
    elif run.conditions is not None:
        made["positions"] = run.conditions[:, 0].tolist()
    return made | {"command": command(run, list(given))}


def _cameras(cameras: Cameras) -> dict[str, Any]:
    """As `m2m views --cameras` reads them."""
    return {"given": cameras.given.tolist(), "views": cameras.views.tolist()}


def _sheet(given: Sequence[Image.Image], generated: Sequence[Image.Image]) -> Image.Image:
    """The given pictures as the model saw them, square and at its size, beside what was made."""
    side = generated[0].width
    return given_and_generated([to_square(image, side) for image in given], generated, cell=max(GRID_CELL, side))


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
