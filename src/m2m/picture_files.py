"""Reading any picture: a file, a URL, or what Pillow has read already.

It becomes an upright RGB picture whatever it stores: rotation flags are applied, transparency lies on white, 16 bits
become 8 by their true range. What is no single picture (an animation, a broken file, a text, a bomb) is a UserError
whose one line names the file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from m2m.types import UserError, first_line

Picture = Image.Image | str | os.PathLike[str]
URLS = ("http://", "https://")
MAX_PIXELS = 64_000_000
MODES_16_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# The formats that hold pictures. Not all that Pillow knows: it hands EPS to Ghostscript, and reads weather maps.
FORMATS = "AVIF BMP DIB GIF ICNS ICO JPEG JPEG2000 PCX PNG PPM PSD QOI SGI SUN TGA TIFF WEBP".split()
# Formats whose further frames are no animation: a phone's second exposure, layers, the same icon at other sizes.
ONE_PICTURE_FORMATS = ("MPO", "PSD", "ICNS", "ICO")


def read_picture(path: str | Path) -> Image.Image:
    """The picture in the file, upright, in mode RGB at its own size.

    Raises UserError if the file is missing, empty, no picture, broken, an animation, or has more than 64 megapixels
    (which is checked before it is decoded).
    """
    path = Path(path)
    _check_is_file(path)
    with _quiet(), _opened(path) as image:
        _check_is_one_picture(image, path)
        try:
            image.load()
            return to_rgb(_upright(image))
        except (
            Exception
        ) as error:  # Pillow's decoders raise all sorts: OSError, SyntaxError, struct.error, IndexError, ...
            raise UserError(f"'{path}' is a broken {image.format} picture: {error}") from error


def opened_picture(picture: Picture) -> Image.Image:
    """A picture as a caller may give it, as `read_picture` gives it: from a path, an http(s) URL, or Pillow.

    Raises UserError, also where a URL gives no picture; a URL is fetched without any further check.
    """
    if isinstance(picture, Image.Image):
        return to_rgb(_upright(picture))
    place = os.fspath(picture)
    if not place.startswith(URLS):
        return read_picture(place)
    from diffusers.utils import load_image

    try:
        return to_rgb(load_image(place, convert_method=_as_it_is))
    except Exception as error:  # of requests, of its connection, of Pillow
        reason = first_line(error)
        raise UserError(f"'{place}' gives no picture: {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode in mode RGB: transparency composited on white, 16-bit and float values scaled to 8 bits."""
    if image.mode in MODES_16_BIT or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of large pictures (from 89 megapixels on; our own limit is lower) and odd metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_is_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError(f"'{path}' is a folder, not a picture; name the files in it ('{path}/*.png')")
        if not path.exists():
            raise UserError(f"'{path}' does not exist")
        if not path.is_file():
            raise UserError(f"'{path}' is no regular file")
        if path.stat().st_size == 0:
            raise UserError(f"'{path}' is empty, not a picture")
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}") from error


def _opened(path: Path) -> Image.Image:
    """The file's header as a Pillow image, not yet decoded."""
    try:
        return Image.open(path, formats=_known_formats())
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 megapixels
        raise UserError(f"'{path}' has more than {MAX_PIXELS // 10**6} megapixels; scale it down first") from error
    except UnidentifiedImageError as error:
        raise UserError(f"'{path}' is not a picture of a known format (PNG, JPEG, WebP, TIFF, ...)") from error
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a header that starts well and goes on badly
        raise UserError(f"'{path}' is a broken picture: {error}") from error


@cache
def _known_formats() -> list[str]:
    """Of FORMATS those that this build of Pillow reads; `Image.open` fails on a name that it does not know."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_is_one_picture(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise UserError(f"'{path}' has {width} x {height} pixels, more than {limit} megapixels; scale it down first")
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # counting frames reads on in the file
        raise UserError(f"'{path}' is a broken {image.format} picture: {error}") from error
    if frames > 1 and image.format not in ONE_PICTURE_FORMATS:
        raise UserError(f"'{path}' holds {frames} pictures (an animation or pages); save one of them as a picture")


def _as_it_is(image: Image.Image) -> Image.Image:
    """In place of diffusers' own conversion, which drops transparency and clips 16 bits."""
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as stored if that note itself is broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits, 32 bits or floats -> mode L. (Pillow's own conversion clips at 255: a white sheet.)"""
    values: NDArray[np.float32] = np.nan_to_num(np.asarray(image, dtype=np.float32))
    highest = float(values.max(initial=0))
    return Image.fromarray((values / _full_scale(image.mode, highest) * 255).clip(0, 255).round().astype(np.uint8))


def _full_scale(mode: str, highest: float) -> float:
    """The value that stands for white. Floats come in several customs; whole numbers have 16 bits unless larger."""
    if mode == "F" and highest <= 1:
        return 1.0
    if mode == "F" and highest <= 255:
        return 255.0
    return max(65535.0, highest)
