"""The names that shards and their entries may have. Everything else is refused, by name.

A name out of a foreign tar or manifest becomes a file name or a part of a URL, and some programs that open URLs hand
them to a shell. So each is matched against a list of what is allowed; nothing is cleaned up and used.
"""

from __future__ import annotations

import re

from m2m.types import UserError

IMAGE_FORMATS = ("webp", "png", "jpg")
MAX_KEY = 80  # a ustar name has 100 bytes; the rest is for the suffix

_KEY = re.compile(rf"[0-9A-Za-z_-]{{1,{MAX_KEY}}}")
_IMAGE = re.compile(rf"([0-9]{{3,6}})\.({'|'.join(IMAGE_FORMATS)})")
_OTHER_SUFFIXES = ("json", "latents.npy", "features.npy")
_SHARD = re.compile(r"shard-([0-9]{6,9})-([0-9]{3,6})-([0-9]{3,6})")


class ShardError(UserError):
    """A shard, its record or a manifest that is damaged or must not be trusted. The message names it and the place."""


def shard_name(index: int, images: tuple[int, int]) -> str:
    """Name of shard number `index` with the images `images[0]` to `images[1] - 1` of its sets: "shard-000012-000-025".

    Raises ShardError where the range is empty or a number is out of bounds.
    """
    start, stop = images
    name = f"shard-{index:06d}-{start:03d}-{stop:03d}"
    if not start < stop or not _SHARD.fullmatch(name):
        raise ShardError(f"there is no shard {index} with images {start}:{stop}; a range like 0:25 is right")
    return name


def split_name(name: str) -> tuple[int, tuple[int, int]]:
    """The index and the image range that a shard's name states. Raises ShardError for any other name."""
    match = _SHARD.fullmatch(name)
    index, start, stop = (int(number) for number in match.groups()) if match else (0, 0, 0)
    if not start < stop or shard_name(index, (start, stop)) != name:
        raise ShardError(f"{shown(name)} is no name of a shard; shard-000012-000-025 would be one")
    return index, (start, stop)


def check_key(key: str) -> None:
    """Raise ShardError unless `key` can name a set: 1 to 80 of the characters 0-9 A-Z a-z _ -."""
    if not _KEY.fullmatch(key):
        raise ShardError(f"{shown(key)} cannot name a set: 1 to {MAX_KEY} of the characters 0-9 A-Z a-z _ - can")


def image_suffix(number: int, image_format: str) -> str:
    """The suffix of image `number` of a set: (7, "webp") -> "007.webp"."""
    suffix = f"{number:03d}.{image_format}"
    if image_number(suffix) is None:
        raise ShardError(f"image {number} cannot be stored as '{image_format}'; formats are {', '.join(IMAGE_FORMATS)}")
    return suffix


def image_number(suffix: str) -> int | None:
    """The number of the image that an entry with this suffix holds: "007.webp" -> 7; None if it holds no image."""
    match = _IMAGE.fullmatch(suffix)
    return int(match[1]) if match and f"{int(match[1]):03d}" == match[1] else None


def split_entry(name: str) -> tuple[str, str]:
    """An entry's name -> the key of its set and its suffix: "ab12.007.webp" -> ("ab12", "007.webp").

    Raises ShardError for a path ("/etc/passwd", "../x.json"), and for what no shard holds (".pkl", ".pth", ".py", ...).
    """
    key, _, suffix = name.partition(".")
    if not _KEY.fullmatch(key) or (suffix not in _OTHER_SUFFIXES and image_number(suffix) is None):
        raise ShardError(f"entry {shown(name)} is not allowed; a shard holds KEY.000.webp, KEY.latents.npy, KEY.json")
    return key, suffix


def shown(text: object, limit: int = 80) -> str:
    """Foreign text, fit for one line of a terminal: control characters escaped, cut at `limit` characters."""
    whole = str(text)
    cut = whole if len(whole) <= limit else whole[:limit] + "..."
    return ascii(cut)
