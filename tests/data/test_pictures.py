"""Any picture file becomes an upright RGB picture, and anything else one clear line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2m.data.pictures import images_from_pixels, pixels_from_images, read_picture, to_rgb, to_square
from m2m.types import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def half_red_half_blue(width: int = 40, height: int = 20) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def near(found: tuple[int, ...], expected: tuple[int, ...], by: int = 6) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, expected, strict=True))


def refused(path: Path) -> str:
    """The message about a file that must not be read: one line that names it."""
    with pytest.raises(UserError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "gif", "ppm", "jp2", "avif", "tga"])
def test_reads_every_common_format(tmp_path: Path, suffix: str) -> None:
    """A format left out of the list of formats would be refused although Pillow reads it."""
    path = tmp_path / f"picture.{suffix}"
    half_red_half_blue().save(path)
    image = read_picture(path)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert near(image.getpixel((4, 10)), RED, by=40) and near(image.getpixel((35, 10)), BLUE, by=40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    """A phone's picture would enter the model lying on its side."""
    upright = half_red_half_blue(40, 20)
    upright.putpixel((0, 0), GREEN)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transpose that makes the stored picture
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.png"
    stored.save(path, exif=exif)
    image = read_picture(path)
    assert image.size == (40, 20)
    assert np.array_equal(np.asarray(image), np.asarray(upright))


def test_a_broken_exif_block_does_not_hide_a_good_picture(tmp_path: Path) -> None:
    """Many programs write EXIF that does not parse; the picture is fine all the same."""
    path = tmp_path / "odd.jpg"
    half_red_half_blue().save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x12\x01")
    assert read_picture(path).size == (40, 20)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    """Dropping the alpha channel shows the colour below it: mostly black, around every cut-out picture."""
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 5, 10))
    image.putpixel((9, 9), (0, 0, 0, 128))
    image.save(tmp_path / "cut.png")
    read = read_picture(tmp_path / "cut.png")
    assert read.getpixel((0, 0)) == RED
    assert read.getpixel((9, 0)) == (255, 255, 255)
    assert near(read.getpixel((9, 9)), (127, 127, 127))


def test_transparency_of_grey_palette_and_colour_key_lies_on_white(tmp_path: Path) -> None:
    """Transparency is not only a fourth channel: LA, a palette entry and a key colour say it too."""
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    Image.new("P", (4, 4), 0).save(tmp_path / "p.png", transparency=0)
    Image.new("RGB", (4, 4), BLUE).save(tmp_path / "key.png", transparency=BLUE)
    Image.new("L", (4, 4), 7).save(tmp_path / "l.png", transparency=7)
    for name in ("la", "p", "key", "l"):
        assert read_picture(tmp_path / f"{name}.png").getpixel((1, 1)) == (255, 255, 255), name


def test_palette_and_bilevel_keep_their_colours(tmp_path: Path) -> None:
    """Reading palette indices as grey values would turn a picture dark."""
    half_red_half_blue().convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(tmp_path / "p.png")
    assert near(read_picture(tmp_path / "p.png").getpixel((2, 2)), RED)
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    assert read_picture(tmp_path / "bits.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_keeps_its_colours(tmp_path: Path, suffix: str) -> None:
    """CMYK read as inverted (an Adobe custom) comes out as a negative."""
    path = tmp_path / f"print.{suffix}"
    half_red_half_blue().convert("CMYK").save(path)
    assert near(read_picture(path).getpixel((4, 10)), RED, by=30)


def grey_ramp_16_bit() -> np.ndarray:
    return np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, axis=0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_range(tmp_path: Path, suffix: str) -> None:
    """Pillow's own conversion clips at 255: all but the darkest 0.4% would come out white."""
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(grey_ramp_16_bit()).save(path)
    values = np.asarray(read_picture(path))
    assert np.abs(values[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_16_bit_big_endian_and_pgm_keep_their_range(tmp_path: Path) -> None:
    """The other byte order, and the mode (I) that 16-bit PGM files open in, need the same care."""
    big = Image.frombytes("I;16B", (256, 4), grey_ramp_16_bit().astype(">u2").tobytes())
    assert np.abs(np.asarray(to_rgb(big))[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    (tmp_path / "scan.pgm").write_bytes(b"P5 256 4 65535\n" + grey_ramp_16_bit().astype(">u2").tobytes())
    assert np.asarray(read_picture(tmp_path / "scan.pgm"))[0, 128, 0] in (127, 128, 129)


def write_png(path: Path, width: int, height: int, depth: int, colour: int, raw: bytes) -> None:
    """A PNG by hand, for kinds that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_16_bit_colour_png(tmp_path: Path) -> None:
    """48-bit colour, as raw converters and renderers write it."""
    row = b"\x00" + struct.pack(">HHH", 65535, 0, 32768) * 3
    write_png(tmp_path / "deep.png", width=3, height=2, depth=16, colour=2, raw=row * 2)
    assert near(read_picture(tmp_path / "deep.png").getpixel((1, 1)), (255, 0, 128), by=1)


@pytest.mark.parametrize(("white", "dtype"), [(1.0, "float"), (255.0, "float"), (65535, "int32"), (2**31 - 1, "int32")])
def test_float_and_32_bit_tiff(tmp_path: Path, white: float, dtype: str) -> None:
    """A render in 0..1 must not come out black, nor a 32-bit scan white."""
    values = np.array([[0.0, white / 2, white]], dtype=np.float32 if dtype == "float" else np.int32)
    Image.fromarray(values).save(tmp_path / "scan.tif")
    read = read_picture(tmp_path / "scan.tif")
    assert [read.getpixel((x, 0))[0] for x in range(3)] == pytest.approx([0, 127.5, 255], abs=1)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_an_animation_is_refused(tmp_path: Path, suffix: str) -> None:
    """Its first frame, often blank, would be taken without a word."""
    path = tmp_path / f"dance.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "3 pictures" in refused(path)


def test_a_phones_second_exposure_is_no_animation(tmp_path: Path) -> None:
    """Phones write MPO files named .jpg: two frames, one picture."""
    path = tmp_path / "phone.jpg"
    half_red_half_blue().save(path, format="MPO", save_all=True, append_images=[half_red_half_blue()])
    assert read_picture(path).size == (40, 20)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    """An interrupted copy would come out half grey."""
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path)


def test_a_file_with_flipped_bytes_is_refused(tmp_path: Path) -> None:
    """A damaged disk block must not end in a decoder's own exception."""
    path = tmp_path / "bad.png"
    half_red_half_blue(200, 200).save(path)
    content = bytearray(path.read_bytes())
    content[45:60] = bytes(15)
    path.write_bytes(bytes(content))
    assert "broken" in refused(path)


def test_empty_text_missing_and_folder_are_refused(tmp_path: Path) -> None:
    """Each is told apart, because each is mended differently."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("no picture at all\n" * 20)
    assert "empty" in refused(tmp_path / "empty.png")
    assert "not a picture" in refused(tmp_path / "notes.png")
    assert "does not exist" in refused(tmp_path / "nowhere.png")
    assert "folder" in refused(tmp_path)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to waits for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    assert "no regular file" in refused(tmp_path / "pipe.png")


def test_eps_is_not_handed_to_ghostscript(tmp_path: Path) -> None:
    """Pillow runs an outside interpreter for EPS; a picture argument must not start a program."""
    half_red_half_blue().save(tmp_path / "drawing.eps")
    assert "not a picture" in refused(tmp_path / "drawing.eps")


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10_000, 9_500), (60_000, 60_000)])
def test_more_than_64_megapixels_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    """A few bytes that unpack to gigabytes: the body here is empty, so decoding would have said "broken" instead."""
    write_png(tmp_path / "bomb.png", width, height, depth=8, colour=2, raw=b"")
    assert "64 megapixels" in refused(tmp_path / "bomb.png")


def test_64_megapixels_pass_the_check(tmp_path: Path) -> None:
    """The limit itself is allowed: what is wrong with this file is its empty body, not its size."""
    write_png(tmp_path / "large.png", 8000, 8000, depth=8, colour=2, raw=b"")
    assert "broken PNG picture" in refused(tmp_path / "large.png")


def test_to_square_takes_the_middle() -> None:
    """Squeezing instead of cropping changes every shape; cropping at a corner loses the subject."""
    image = Image.new("RGB", (90, 30), RED)
    image.paste(GREEN, (30, 0, 60, 30))
    square = to_square(image, 16)
    assert square.size == (16, 16)
    assert np.asarray(square).reshape(-1, 3).tolist() == [list(GREEN)] * 256


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_to_square_of_extreme_shapes(size: tuple[int, int]) -> None:
    """A crop rounded to nothing raises deep in Pillow."""
    assert to_square(Image.new("RGB", size, RED), 8).getpixel((4, 4)) == RED


def test_pixels_and_back_are_exact() -> None:
    """A wrong scale, a truncation instead of rounding or swapped axes: all show as a difference of one."""
    values = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    pixels = pixels_from_images([Image.fromarray(value) for value in values], size=8)
    assert pixels.shape == (3, 3, 8, 8) and pixels.dtype == torch.float32
    assert pixels.min() >= -1 and pixels.max() <= 1
    assert pixels[1, 2, 5, 6].item() == pytest.approx(values[1, 5, 6, 2] / 127.5 - 1)
    again = np.stack([np.asarray(image) for image in images_from_pixels(pixels)])
    assert np.array_equal(again, values)


def test_pixels_outside_the_range_are_clipped() -> None:
    """A decoder overshoots a little; without clipping, white wraps round to black."""
    pixels = torch.tensor([-1.2, 0.0, 1.3]).view(1, 3, 1, 1)
    assert images_from_pixels(pixels)[0].getpixel((0, 0)) == (0, 128, 255)


def test_no_pictures_give_no_pixels() -> None:
    """Zero given images are legal: the first one is then unconditional."""
    assert pixels_from_images([], size=16).shape == (0, 3, 16, 16)
