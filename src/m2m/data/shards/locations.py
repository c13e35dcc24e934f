"""Where a folder of shards lies: a path or a URL. URLs are opened through webdataset, which runs programs for them.

Only URLs of plain characters pass: older versions of that library build a shell command out of the URL.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from m2m.data.shards.names import ShardError, shown
from m2m.types import UserError

MAX_FILE = 1 << 27  # bytes of a record or manifest; a manifest of a hundred thousand shards has 40 MB

_URL = re.compile(r"(https?|gs|s3|hf|ais|sftp|ftps|scp|file)://[0-9A-Za-z._~:/@%+=,-]+")


def is_url(where: str | Path) -> bool:
    """Whether `where` is meant as a URL ("https://...", also "pipe:..."), not as a path of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://|pipe:", str(where)) is not None


def open_url(url: str) -> BinaryIO:
    """The bytes behind a URL, as a stream to be closed; a failed transfer raises OSError on a read or on close.

    Raises ShardError for a URL with a scheme or with characters that are not allowed, UserError without webdataset.
    """
    if not _URL.fullmatch(url):
        raise ShardError(f"{shown(url, 200)} is no URL that can be opened: https://host/folder of plain characters is")
    try:
        from webdataset import gopen
    except ImportError as error:
        raise UserError("reading a URL needs webdataset: pip install 'm2m-diffusion[data]'") from error
    try:
        stream: BinaryIO = gopen(url, "rb")
    except (OSError, ValueError, ImportError) as error:
        raise ShardError(f"'{url}' cannot be opened: {transfer_failure(error)}") from error
    return stream


def transfer_failure(error: Exception) -> str:
    """Why a transfer failed, in short: what a failed program says repeats its whole command, tokens and all."""
    status = re.search(r"exit (-?\d+)", str(error))
    if status:
        hint = " (the server refused: no such file?)" if status[1] == "22" else ""
        return f"the program that fetches it ended with exit code {status[1]}{hint}"
    return getattr(error, "strerror", None) or type(error).__name__


def open_regular(path: str | Path) -> BinaryIO:
    """The file, opened for reading. Raises ShardError where it is missing, unreadable or a pipe (which would hang)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ShardError(f"'{path}' is no regular file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise ShardError(f"'{path}' does not exist") from error
    except OSError as error:
        raise ShardError(f"'{path}' cannot be read: {error.strerror}") from error


def read_file(where: str | Path, filename: str) -> bytes:
    """The content of a small file (a record, a manifest) in a folder or below a URL.

    Raises ShardError where it is missing, cannot be read, or is too large to be one.
    """
    place = f"{str(where).rstrip('/')}/{filename}"
    try:
        with open_url(place) if is_url(where) else open_regular(Path(where) / filename) as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise ShardError(f"'{place}' cannot be read: {transfer_failure(error)}") from error
    if len(content) > MAX_FILE:
        raise ShardError(f"'{place}' is larger than {MAX_FILE} bytes, so it is no record or manifest")
    return content
