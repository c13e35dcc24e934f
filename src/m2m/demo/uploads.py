"""What visitors send, read so that nothing they send can hurt: a good RGB picture, or one line that says why not.

Decoders of pictures are large C libraries that a hostile file may keep busy for hours, fill the memory with, or crash.
So this process never parses a visitor's bytes. It opens the file, sees that it is a regular one of modest size, and
hands the open file to a child process (`m2m.demo.upload_reader`) that has a fraction of a second and a gigabyte, and
sends back plain pixels.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from m2m.types import UserError

READER = "m2m.demo.upload_reader"
# The child's exit code when its output is a message, and the message when it was ended or ran out of memory.
REFUSED = 3
TOO_COSTLY = "costs too much time or memory to read; save it anew as a plain PNG or JPEG of modest size"
NAME_LENGTH = 60
# Seconds on the clock after which a child is ended that does not even use its share of processor time.
PATIENCE = 20.0
# In the child, threads of the numeric libraries would only cost address space.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """What a visitor may send, and what reading one file may cost."""

    bytes: int = 20_000_000  # of a file
    pixels: int = 50_000_000  # of a picture as stored
    ratio: int = 20  # the longer side over the shorter one
    count: int = 8  # pictures of a visit
    side: int = 1024  # pixels of the longer side of what is kept; larger pictures are scaled down
    seconds: float = 0.6  # of processor time to read one file
    memory: int = 1_500_000_000  # bytes of address space to read one file


def read_uploads(paths: Sequence[str | Path], limits: Limits = Limits()) -> list[Image.Image]:
    """The pictures of several uploaded files, in their order. Raises UserError like `read_upload`, or if too many."""
    if len(paths) > limits.count:
        raise UserError(f"{len(paths)} pictures are too many; give at most {limits.count}")
    return [read_upload(path, limits) for path in paths]


def read_upload(path: str | Path, limits: Limits = Limits(), name: str | None = None) -> Image.Image:
    """The picture in an uploaded file: upright, mode RGB, 8 bit, its longer side at most `limits.side` pixels.

    PNG, JPEG, WebP, GIF, BMP and TIFF are read, known by their content and not by their name; of an animation the
    first frame. `name` is what the visitor called the file (the file's own name by default). Raises UserError for
    everything else, in one line that calls the file by that name alone: a visitor learns no path of this machine.
    """
    shown = shown_name(os.fspath(path) if name is None else name)
    with _opened(path, shown, limits) as file:
        return _read_in_child(file, shown, limits)


def shown_name(name: str) -> str:
    """A file name made fit for a message: without folders, of printable characters, at most 60 of them."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    # What is not printable includes line breaks and the marks that turn the direction of writing.
    clean = "".join(character if character.isprintable() else "?" for character in last)
    return clean if len(clean) <= NAME_LENGTH else f"{clean[: NAME_LENGTH - 12]}...{clean[-9:]}"


def _opened(path: str | Path, shown: str, limits: Limits) -> BinaryIO:
    """The file, open, after the checks that need no look inside: it is a file itself, and of modest size.

    Checked on the open file, so that nothing can be put in its place between the check and the reading.
    """
    # Links are not followed (where the system can tell); and a pipe must not wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise UserError(f"'{shown}' is no file that can be read; upload a picture") from error
    complaint = _complaint(os.fstat(descriptor), limits)
    if complaint:
        os.close(descriptor)
        raise UserError(f"'{shown}' {complaint}")
    return os.fdopen(descriptor, "rb")


def _complaint(status: os.stat_result, limits: Limits) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file; upload a picture"
    if status.st_size == 0:
        return "is empty, not a picture"
    if status.st_size > limits.bytes:
        size, most = status.st_size / 10**6, limits.bytes / 10**6
        return f"has {size:.1f} MB, more than {most:g} MB; scale it down, or save it as JPEG"
    return ""


def _read_in_child(file: BinaryIO, shown: str, limits: Limits) -> Image.Image:
    command = [sys.executable, "-m", READER, json.dumps(asdict(limits))]
    environment = {**os.environ, **ONE_THREAD}
    try:
        done = subprocess.run(command, stdin=file, capture_output=True, env=environment, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"'{shown}' {TOO_COSTLY}") from error
    if done.returncode == 0:
        size, pixels = done.stdout.split(b"\n", maxsplit=1)
        width, height = map(int, size.split())
        return Image.frombytes("RGB", (width, height), pixels)
    if done.returncode == REFUSED:
        raise UserError(f"'{shown}' {done.stdout.decode()}")
    raise UserError(f"'{shown}' {TOO_COSTLY}")
