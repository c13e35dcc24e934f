"""Looking at picture files before a set counts on them: each is decoded once, measured and hashed, or refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from m2m.checkpoint import sha256_of_files
from m2m.data.pictures import read_picture
from m2m.types import UserError

Progress = Callable[[int, int], None]
BLOCK = 256  # files that are handed to the threads at once; a million at once would fill the memory with their futures
SHOWN = 3  # refused files that an error message quotes
THREADS = min(8, os.cpu_count() or 1)  # decoding a picture leaves Python's lock to the others


@dataclass(frozen=True)
class PictureFile:
    """A file that was read as a picture. name: below the folder that was asked for, with "/"; size in bytes."""

    name: str
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Refused:
    """A file that is no usable picture, and why, in one line that names it."""

    name: str
    reason: str


def inspect(files: Sequence[tuple[str, Path]], progress: Progress | None = None) -> Iterator[PictureFile | Refused]:
    """Decode and hash every file (name, path) on all cores; in order. progress: called with (done, in all)."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            for done, result in enumerate(pool.map(_inspect, *zip(*block, strict=True)), start + 1):
                yield result
                if progress:
                    progress(done, len(files))


def check_none_refused(refused: Sequence[Refused]) -> None:
    """Raise UserError with how many files were refused and the reasons of the first ones, if any were."""
    if refused:
        quoted = "; ".join(file.reason for file in refused[:SHOWN])
        more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise UserError(f"{_pictures(len(refused))} cannot be used: {quoted}{more}; --broken skip leaves them out")


def natural(name: str) -> tuple[list[list[tuple[int, int, str]]], str]:
    """Sort key of a name with "/": numbers by their value, capitals as small letters: "cat 2" before "Cat 10"."""
    return [[_rank(word) for word in re.split(r"(\d+)", part)] for part in name.split("/")], name


def shown(path: Path, root: Path) -> str:
    """The path below `root` as text that can be stored: "/" between folders, bytes that are no UTF-8 as escapes."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _inspect(name: str, path: Path) -> PictureFile | Refused:
    try:
        read_picture(path)
        return PictureFile(name, path, path.stat().st_size, sha256_of_files([path]))
    except UserError as error:
        return Refused(name, str(error))
    except OSError as error:  # it went between the two readings
        return Refused(name, f"'{path}' cannot be read: {error.strerror or error}")


def _rank(word: str) -> tuple[int, int, str]:
    return (0, int(word), "") if word.isdecimal() else (1, 0, word.casefold())


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
