"""The child process that reads one uploaded picture: file on standard input, pixels or a message on standard output.

    python -m m2m.demo.upload_reader '{"pixels": 50000000, ...}' < file

It cannot write a file, and the system ends it when it has used its processor time. Everything about the file that a
decoder would believe (its size in pixels, the size of its tiles) is checked before anything is decoded.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import suppress
from io import BytesIO

from PIL import Image, ImageFile, ImageOps

from m2m.demo.uploads import REFUSED, TOO_COSTLY, Limits

# Not all that Pillow knows: fewer decoders, fewer holes. GIF, WebP and PNG may be animated: the first frame counts.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Tags of TIFF: the sides of a tile, which are independent of the sides of the picture.
TILE_SIDES = (322, 323)


class Refused(Exception):
    """Why a file is not read, as the end of a sentence that begins with its name."""


def main(limits: Limits) -> int:
    """Read standard input, write to standard output; the exit code is 0 or REFUSED."""
    _restrict(limits)
    try:
        image = _picture(BytesIO(sys.stdin.buffer.read(limits.bytes + 1)), limits)
    except Refused as reason:
        sys.stdout.write(str(reason))
        return REFUSED
    except MemoryError:
        sys.stdout.write(TOO_COSTLY)
        return REFUSED
    sys.stdout.buffer.write(b"%d %d\n" % image.size + image.tobytes())
    return 0


def _restrict(limits: Limits) -> None:
    """Bound time, memory and files, as far as the system can (Windows cannot: there the parent's patience is left)."""
    with suppress(ImportError, OSError, ValueError):
        import resource
        import signal

        # The profiling timer counts processor time, in fractions of a second; its signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)
        for what, most in (("FSIZE", 0), ("CORE", 0), ("AS", limits.memory)):
            resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (most, most))


def _picture(file: BytesIO, limits: Limits) -> Image.Image:
    """The checked, decoded, upright picture in mode RGB at its final size. Raises Refused."""
    warnings.simplefilter("ignore")
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Refused(_too_large("too many", limits)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise Refused("is no picture that can be read here; save it as PNG, JPEG, WebP, GIF, BMP or TIFF") from error
    _check_header(image, limits)
    try:
        return _upright_rgb(image, limits.side)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise all sorts: OSError, SyntaxError, struct.error, IndexError, ...
        raise Refused(f"is a broken {image.format} picture; save it anew") from error


def _check_header(image: ImageFile.ImageFile, limits: Limits) -> None:
    width, height = image.size
    tile_width, tile_height = (getattr(image, "tag_v2", {}).get(tag, 1) for tag in TILE_SIDES)
    if width * height > limits.pixels:
        raise Refused(_too_large(f"{width} x {height}", limits))
    if tile_width * tile_height > limits.pixels:
        raise Refused(_too_large(f"tiles of {tile_width} x {tile_height}", limits))
    if max(width, height) > limits.ratio * min(width, height):
        raise Refused(f"is {width} x {height} pixels, too long and narrow; crop it to less than {limits.ratio} to 1")


def _too_large(found: str, limits: Limits) -> str:
    return f"has {found} pixels, more than {limits.pixels / 10**6:g} million; scale it down"


def _upright_rgb(image: Image.Image, side: int) -> Image.Image:
    one_transparent_colour = image.mode in ("L", "RGB") and "transparency" in image.info
    if image.mode in ("1", "P", "PA") or one_transparent_colour:  # these cannot be scaled smoothly
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;16"):  # nor these at all
        image = image.convert("I")
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)  # JPEGs are decoded small from the start
    image.load()  # small pictures are not decoded yet
    with suppress(Exception):  # a broken note of the camera's; the picture may be fine
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    from m2m.data.pictures import to_rgb  # brings numpy, which most pictures do without

    return to_rgb(image)


if __name__ == "__main__":
    sys.exit(main(Limits(**json.loads(sys.argv[1]))))
