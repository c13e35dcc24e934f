"""What lies in a shard is opened with care: pictures, arrays and descriptions of unknown origin."""

from __future__ import annotations

import io
import json
import resource
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from m2m.data.shards import ShardError, open_array, open_json, open_picture
from tests.data.shards.making import picture

WHERE = "'x.tar', ab12.000.webp"


def refused(act: Callable[[bytes, str], object], payload: bytes) -> str:
    with pytest.raises(ShardError) as caught:
        act(payload, WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE) and message.isprintable()
    return message


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes that claim a picture of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_claiming(width: int, height: int, original: bytes | None = None) -> bytes:
    """A lossless WebP picture (by default of one colour) whose header is made to claim this size (14 bits each)."""
    content = bytearray(original or saved(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    place = content.index(b"VP8L") + 9
    flags = int.from_bytes(content[place : place + 4], "little") >> 28 << 28
    content[place : place + 4] = (flags | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(content)


def webp_canvas_claiming(width: int, height: int) -> bytes:
    """An animated WebP file of one small frame on a canvas of this size."""
    frame = saved(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes(4) + frame
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + sides + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    content = b"WEBP" + chunks + b"ANMF" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("image_format", ["webp", "png", "jpg"])
def test_opens_the_three_formats(image_format: str) -> None:
    """A format left out of the list would lose every shard that is stored in it."""
    image = open_picture(picture(1, size=12, image_format=image_format), WHERE)
    assert (image.mode, image.size) == ("RGB", (12, 12))
    values = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert image_format == "jpg" or np.array_equal(np.asarray(image), values)


@pytest.mark.parametrize("claim", [png_claiming, webp_claiming, webp_canvas_claiming])
@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (9500, 9500), (16000, 16000)])
def test_bombs_are_refused_before_they_are_decoded(claim: Callable[[int, int], bytes], width: int, height: int) -> None:
    """A hundred bytes that claim 16,000 x 16,000 pixels take a gigabyte, times the workers."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    payload = claim(width, height)
    assert len(payload) < 200
    assert "megapixels" in refused(open_picture, payload)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_whole_picture_of_65_megapixels_is_refused() -> None:
    """A real bomb, which decodes well: one colour packs to nothing."""
    payload = saved(Image.new("1", (16000, 4100)), "PNG")
    assert len(payload) < 20_000
    assert "16000 x 4100 pixels" in refused(open_picture, payload)


def test_a_small_file_that_claims_much_is_broken() -> None:
    """Within the limit the size is believed; that the pixels are not there must not pass for a black picture."""
    for payload in (png_claiming(2000, 2000), webp_claiming(2000, 2000, picture(1, size=16))):
        assert "is a broken" in refused(open_picture, payload)


@pytest.mark.parametrize("image_format", ["webp", "png", "jpg"])
def test_a_cut_picture_is_broken(image_format: str) -> None:
    """Pillow can be told to fill what is missing with grey; here it must not."""
    payload = picture(2, size=40, image_format=image_format)
    for size in (0, 1, 11, 30, len(payload) // 2, len(payload) - 40):
        refused(open_picture, payload[:size])


def test_what_is_no_picture_of_ours_is_refused() -> None:
    """Pillow opens dozens of formats, some through other programs."""
    image = Image.new("RGB", (16, 16), "red")
    others = [saved(image, name) for name in ("GIF", "BMP", "TIFF", "PPM", "EPS")]
    for payload in (*others, b"", b"text", b"\x80\x04]\x94.", b"RIFF\0\0\0\0WEBP"):
        refused(open_picture, payload)
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for image_format in ("WEBP", "PNG"):
        animation = saved(frames[0], image_format, save_all=True, append_images=frames[1:])
        assert "holds 2 pictures" in refused(open_picture, animation)


def test_transparency_and_grey_become_rgb() -> None:
    """A reader that expects three channels gets one, two or four."""
    for mode in ("L", "LA", "RGBA", "P", "1", "I;16"):
        assert open_picture(saved(Image.new(mode, (4, 4)), "PNG"), WHERE).mode == "RGB"


def npy(array: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def npy_claiming(shape: object, descr: str = "'<f2'", payload: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + payload


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int64"])
def test_arrays_come_back(dtype: str) -> None:
    """Latents read with another type or order are noise."""
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    read = open_array(npy(array), WHERE)
    assert read.dtype == array.dtype and np.array_equal(read, array) and read.flags.writeable


def test_arrays_that_run_code_or_eat_memory_are_refused() -> None:
    """An array of objects is a pickle; a header may claim terabytes, or negative lengths whose product fits."""
    whole = npy(np.zeros((2, 3), np.float16))
    payloads = [
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        npy(np.array(["text"])),
        npy(np.zeros(3, np.complex64)),
        npy(np.asfortranarray(np.zeros((2, 3)))),
        npy(np.zeros(2, dtype=[("a", "f2")])),
        npy(np.float16(1)),
        npy(np.zeros((0, 3), np.float16)),
        npy_claiming((1 << 40,)),
        npy_claiming((1 << 62, 4, 2)),
        npy_claiming((-1, -6), payload=bytes(12)),
        npy_claiming((1,) * 70, payload=bytes(2)),
        npy_claiming("__import__('os').getcwd()"),
        npy_claiming((6,), descr="'|O'", payload=bytes(48)),
        npy_claiming("(" * 500),
        b"\x93NUMPY\3\0" + whole[8:],
        whole[:-1],
        whole + b"\0",
        whole[:20],
        b"",
        b"PK\3\4",
    ]
    for payload in payloads:
        refused(open_array, payload)


def test_descriptions_are_mappings() -> None:
    """A description that is a list, or nested a hundred thousand deep, breaks whoever looks a caption up in it."""
    assert open_json(json.dumps({"caption": "café"}).encode(), WHERE) == {"caption": "café"}
    for payload in (b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"):
        refused(open_json, payload)
