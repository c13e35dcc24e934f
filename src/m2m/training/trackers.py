"""Where the numbers of a run go: accelerate's trackers, by name, and a file of JSON lines.

A run that continues from step S takes back what a killed one recorded behind S, for those steps come again: TensorBoard
hides them (its purge step), the file drops them, and wandb goes on with the same run and ignores steps that it has.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import atomic_write
from m2m.types import UserError

PROJECT = "m2m"  # under which services that keep runs of many projects file ours


def check_trackers(names: str) -> list[str]:
    """The trackers that `names` lists: `tensorboard`, `wandb`, ..., several with commas, or `none`.

    Raises UserError for one that accelerate does not know, or whose package is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

    wanted = [name.strip() for name in names.split(",") if name.strip() not in ("", "none")]
    missing = set(LoggerType.list()) - {str(name) for name in get_available_trackers()}
    for name in wanted:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UserError(f"tracker '{name}' is none of {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}, none")
        if name in missing:
            package = "'m2m-diffusion[train]'" if name == "tensorboard" else name
            raise UserError(f"tracker '{name}' is not installed: pip install {package}, or set tracker=none")
    return wanted


class Trackers:
    """The open trackers of a run, in its main process. start: steps done before. config: kept by those that can."""

    def __init__(self, names: str, out: Path, start: int, config: Mapping[str, Any]) -> None:
        self._open = [_tracker(name, out, start) for name in check_trackers(names)]
        for tracker in self._open:
            tracker.start()
            # TensorBoard would make a folder of its own for it at every start; `config.yaml` lies beside it anyway.
            if tracker.name != "tensorboard":
                tracker.store_init_configuration(dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Scalars, by name."""
        for tracker in self._open:
            tracker.log(dict(values), step=step)

    def log_picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """A picture [H, W, 3], to the trackers that take pictures."""
        for tracker in self._open:
            form = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: picture[None]}, step=step, **form)

    def close(self) -> None:
        """Write out what they hold back, and end them."""
        for tracker in self._open:
            tracker.finish()


def _tracker(name: str, out: Path, start: int) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return kind("tensorboard", str(out), purge_step=start + 1)
    if name == "wandb":
        return kind(PROJECT, dir=str(out), name=out.name, id=_run_id(out), resume="allow")
    return kind(PROJECT, str(out)) if kind.requires_logging_directory else kind(PROJECT)


def _run_id(out: Path) -> str:
    """A name for the run below `out` that no other run has, the same whenever it is continued."""
    path = out / "run_id"
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_text(uuid.uuid4().hex)
    return path.read_text().strip()


class JsonLines:
    """A file with one JSON object a line, each with its `step`, flushed line by line.

    start: steps done before. Lines of later steps are dropped, and so is a line that a kill has left half written.
    """

    def __init__(self, path: Path, start: int) -> None:
        _keep_lines(path, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line. Numbers that are not finite become null, for JSON has no name for them."""
        line = {"step": step, **{name: _finite(value) for name, value in values.items()}}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _keep_lines(path: Path, start: int) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    kept = b"".join(line for line in content.splitlines(keepends=True) if _step(line) <= start)
    if kept != content:
        with atomic_write(path) as temporary:
            temporary.write_bytes(kept)


def _step(line: bytes) -> float:
    """The step of a whole line; infinity for what is none."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
