"""A hundred uploads that mean harm or are merely strange, each made by a function from a folder to a path in it.

The test looks at what becomes of each; benchmarks/demo_uploads.py measures what each costs.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

Maker = Callable[[Path], Path]
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
SECRET = "/etc/passwd"


def photo(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """A smooth picture with something in every channel."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes, before: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of any claim: `data` is what its compressed pixels are, `before` are chunks ahead of them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zero bytes, compressed a thousandfold: one packed megabyte again and again, then the rest."""
    block, rest = 1 << 20, count % (1 << 20)
    packer = zlib.compressobj()
    whole = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compress(bytes(rest))
    # After a full flush nothing refers back. The checksum of n zeros (RFC 1950) is (n mod 65521) << 16 | 1.
    return whole[:2] + whole[2:] * (count // block) + last[2:-4] + struct.pack(">I", count % 65521 << 16 | 1)


def tiff(tags: Iterable[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A TIFF of any claim: tags as (number, type, count, value or offset); `data` lies at byte 8."""
    entries = sorted(tags)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def tiff_of(width: int, height: int, data: bytes, *more: tuple[int, int, int, int], compression: int = 8) -> bytes:
    """A grey TIFF whose pixels are one deflated strip, and further tags."""
    plain = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    strip = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data))]
    replaced = {tag[0] for tag in more}
    return tiff([tag for tag in (*plain, *strip) if tag[0] not in replaced] + list(more), data)


def gif(width: int, height: int, before: bytes = b"") -> bytes:
    """A GIF of any claim with one frame of 1 x 1 pixels, and blocks ahead of it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + before + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"


def bmp(width: int, height: int, data: bytes, depth: int = 24, compression: int = 0) -> bytes:
    palette = bytes(4 << depth) if depth <= 8 else b""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(data), 0, 0, 0, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def exif(*entries: tuple[int, int, int, int], blob: bytes = b"") -> bytes:
    return b"Exif\0\0" + tiff(entries, blob)


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further marker segments behind its first two bytes."""
    parts = [b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return jpeg[:2] + b"".join(parts) + jpeg[2:]


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, a few bytes that touch every block, comes again and again."""
    jpeg = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    table = jpeg.rindex(b"\xff\xc4", 0, last)
    return jpeg[:-2] + jpeg[table:-2] * scans + b"\xff\xd9"


def frames(count: int, side: int = 16) -> list[Image.Image]:
    """Frames that differ, so that no writer joins them."""
    return [Image.new("RGB", (side, side), (number % 256, number // 256, 128)) for number in range(count)]


def animation(kind: str, count: int) -> bytes:
    first, *rest = frames(count)
    return encoded(first, kind, save_all=True, append_images=rest, duration=20)


def text_bomb(kind: bytes) -> bytes:
    packed = zeros(200_000_000)
    bodies = {
        b"zTXt": b"Comment\0\0" + packed,
        b"iTXt": b"Comment\0\1\0\0\0" + packed,
        b"iCCP": b"profile\0\0" + packed,
    }
    return png(4, 4, zlib.compress(bytes(52)), before=chunk(kind, bodies[kind]))


def zip_of(text: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil.sh", text)
    return file.getvalue()


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{}</svg>'
ENTITY = '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + SVG.format(
    "<text>&x;</text>"
)
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
TEXTS = {
    "page.png": "<!DOCTYPE html><html><script>alert(1)</script></html>",
    "page.jpg": "<html><img src=x onerror=alert(1)></html>",
    "page.webp": "\n\n   <html><body>hello</body></html>",
    "entity.svg": ENTITY,
    "entity.png": ENTITY,
    "script.svg": SVG.format("<script>alert(1)</script>"),
    "remote.svg": SVG.format('<image href="http://169.254.169.254/latest/meta-data"/>'),
    "laughs.svg": f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY l0 "lol">{LAUGHS}]>{SVG.format("&l9;")}',
    "shell.png": "#!/bin/sh\nrm -rf ~\n",
    "magick.mvg": "push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x.php?x=`id`'\npop graphic-context",
    "magick.png": "push graphic-context\nimage over 0,0 0,0 'label:@/etc/passwd'\npop graphic-context",
    "script.eps": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "page.pdf": "%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n",
    "xbm.png": "#define im_width 90000\n#define im_height 90000\nstatic char im_bits[] = {0x00};",
    "list.png": "P3\n99999 99999\n255\n0 0 0\n",
}


def written(name: str, make: Callable[[], bytes], folder: Path) -> Path:
    path = folder / name
    path.write_bytes(make())
    return path


def bombs() -> dict[str, Callable[[], bytes]]:
    """Small files that claim, or unpack to, far more than they are."""
    flat = photo(8, 8)
    return {
        "bomb-header.png": lambda: png(30_000, 30_000, zlib.compress(bytes(100))),
        "bomb-largest.png": lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
        "bomb-allowed.png": lambda: png(7000, 7000, zeros(7000 * 21_001)),
        "bomb-16-bit.png": lambda: png(7000, 7000, zeros(7000 * 56_001), depth=16, colour=6),
        "bomb-surplus.png": lambda: png(8, 8, zeros(1_000_000_000)),
        "bomb-text.png": lambda: text_bomb(b"zTXt"),
        "bomb-text-international.png": lambda: text_bomb(b"iTXt"),
        "bomb-profile.png": lambda: text_bomb(b"iCCP"),
        "bomb-header.gif": lambda: gif(30_000, 30_000),
        "bomb-allowed.gif": lambda: gif(7000, 7000),
        "bomb-largest.gif": lambda: gif(65_535, 65_535),
        "bomb-header.tif": lambda: tiff_of(30_000, 30_000, zlib.compress(bytes(100))),
        "bomb-allowed.tif": lambda: tiff_of(7000, 7000, zeros(49_000_000)),
        "bomb-strip.tif": lambda: tiff_of(16, 16, zeros(1_500_000_000)),
        "bomb-tile.tif": lambda: tiff_of(
            16, 16, zeros(900_000_000), (322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 8), (325, 4, 1, 900_000)
        ),
        "bomb-tile-allowed.tif": lambda: tiff_of(
            16, 16, zeros(49_000_000), (322, 4, 1, 7008), (323, 4, 1, 7008), (324, 4, 1, 8), (325, 4, 1, 49_000)
        ),
        "bomb-tags.tif": lambda: tiff_of(
            8, 8, bytes(15_000_000), *((40_000 + n, 1, 15_000_000, 8) for n in range(20_000)), compression=1
        ),
        "bomb-float.tif": lambda: tiff_of(7000, 7000, zeros(196_000_000), (258, 3, 1, 32), (339, 3, 1, 3)),
        "bomb-lzma.tif": lambda: tiff_of(5000, 5000, b"\xfd7zXZ\0" + bytes(99), compression=34925),
        "bomb-header.bmp": lambda: bmp(30_000, 30_000, b""),
        "bomb-allowed.bmp": lambda: bmp(7000, 7000, b""),
        "bomb-runs.bmp": lambda: bmp(7000, 7000, b"\x01\x00" * 9_000_000, depth=8, compression=1),
        "bomb-allowed.webp": lambda: encoded(Image.new("RGB", (7000, 7000)), "WEBP", method=0),
        "bomb-lossless.webp": lambda: encoded(Image.new("RGBA", (7000, 7000)), "WEBP", method=0, lossless=True),
        "bomb-allowed.jpg": lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG"),
        "bomb-progressive.jpg": lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True),
        "bomb-scans.jpg": lambda: many_scans(4000, 20_000),
        "bomb-header.jpg": lambda: encoded(flat, "JPEG").replace(
            b"\x08\x00\x08\x00\x08\x03", b"\x08\xff\xff\xff\xff\x03", 1
        ),
    }


def floods() -> dict[str, Callable[[], bytes]]:
    """Small pictures in files of so many parts that reading past them takes long."""
    jpeg, pixels = encoded(photo(), "JPEG"), zlib.compress(bytes(52))
    large = b"x" * 60_000
    shared = [(40_000 + n, 1, 50_000, 8) for n in range(1000)]
    return {
        "flood-chunks.png": lambda: png(4, 4, pixels, before=chunk(b"tEXt", b"k\0v") * 1_000_000),
        "flood-empty-chunks.png": lambda: png(4, 4, pixels, before=chunk(b"prVt", b"") * 1_500_000),
        "flood-text.png": lambda: png(4, 4, pixels, before=chunk(b"tEXt", b"k\0" + bytes(900_000)) * 20),
        "flood-comment.gif": lambda: gif(1, 1, before=b"!\xfe" + (b"\xff" + b"c" * 255) * 70_000 + b"\0"),
        "flood-blocks.gif": lambda: gif(1, 1, before=b"!\xfe" + b"\x01c" * 9_000_000 + b"\0"),
        "flood-extensions.gif": lambda: gif(1, 1, before=b"!\xff\x01x\0" * 3_500_000),
        "flood-segments.jpg": lambda: with_segments(jpeg, *[(0xFE, b"")] * 1_000_000),
        "flood-fill.jpg": lambda: jpeg[:2] + b"\xff" * 18_000_000 + jpeg[2:],
        "flood-profile.jpg": lambda: with_segments(jpeg, *[(0xE2, b"ICC_PROFILE\0\1\1" + large)] * 300),
        "flood-exif.jpg": lambda: with_segments(jpeg, (0xE1, exif(*shared, blob=large[:50_000]))),
        "flood-exif-parts.jpg": lambda: with_segments(
            jpeg, (0xE1, exif(*shared, blob=large[:50_000])), *[(0xE1, b"Exif\0\0" + large)] * 300
        ),
        "flood-after.png": lambda: encoded(photo(), "PNG") + bytes(15_000_000),
    }


def polyglots() -> dict[str, Callable[[], bytes]]:
    """Files that are a picture and something else as well."""
    script = b"<html><script>alert(1)</script></html>"
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", script.decode())
    return {
        "polyglot-zip.png": lambda: encoded(photo(), "PNG") + zip_of("evil"),
        "polyglot-zip.jpg": lambda: encoded(photo(), "JPEG") + zip_of("evil"),
        "polyglot-html.jpg": lambda: with_segments(encoded(photo(), "JPEG"), (0xFE, script)),
        "polyglot-html.png": lambda: encoded(photo(), "PNG", pnginfo=info),
        "polyglot-html.gif": lambda: encoded(photo(), "GIF", comment=script),
        "polyglot-js.gif": lambda: gif(0x2A2F, 1, before=b"!\xfe\x08*/=1;//x\0"),
        "polyglot-php.bmp": lambda: bmp(4, 4, b"<?php system('id');?>".ljust(48)),
        "polyglot-exe.png": lambda: b"MZ" + encoded(photo(), "PNG"),
    }


def odd_pictures() -> dict[str, Callable[[], bytes]]:
    """Honest pictures of rare kinds; all of them can be shown."""
    deep = Image.fromarray(np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40))
    clear = photo(mode="RGBA")
    clear.putalpha(photo(mode="L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "odd-cmyk.jpg": lambda: encoded(photo(mode="CMYK"), "JPEG"),
        "odd-cmyk.tif": lambda: encoded(photo(mode="CMYK"), "TIFF"),
        "odd-lab.tif": lambda: encoded(Image.new("LAB", (40, 30), (128, 99, 77)), "TIFF"),
        "odd-16-bit.png": lambda: encoded(deep, "PNG"),
        "odd-16-bit.tif": lambda: encoded(deep, "TIFF"),
        "odd-float.tif": lambda: encoded(photo(mode="F"), "TIFF"),
        "odd-bits.png": lambda: encoded(photo(mode="1"), "PNG"),
        "odd-bits.tif": lambda: encoded(photo(mode="1"), "TIFF", compression="group4"),
        "odd-palette.png": lambda: encoded(photo(mode="P"), "PNG", transparency=bytes(range(256))),
        "odd-palette.gif": lambda: encoded(photo(mode="P"), "GIF", transparency=3),
        "odd-one-colour-clear.png": lambda: encoded(photo(), "PNG", transparency=(1, 2, 3)),
        "odd-clear.png": lambda: encoded(clear, "PNG"),
        "odd-clear.webp": lambda: encoded(clear, "WEBP"),
        "odd-grey-clear.png": lambda: encoded(clear.convert("LA"), "PNG"),
        "odd-profile.png": lambda: encoded(photo(), "PNG", icc_profile=os.urandom(999)),
        "odd-profile.jpg": lambda: encoded(photo(), "JPEG", icc_profile=b"no profile at all"),
        "odd-turned.jpg": lambda: encoded(photo(), "JPEG", exif=turned),
        "odd-turned.png": lambda: encoded(photo(), "PNG", exif=turned),
        "odd-broken-exif.jpg": lambda: encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x12\x01"),
        "odd-exif-to-itself.jpg": lambda: encoded(photo(), "JPEG", exif=exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8))),
        "odd-progressive.jpg": lambda: encoded(photo(500, 400), "JPEG", progressive=True),
        "odd-interlaced.gif": lambda: encoded(photo(500, 400), "GIF", interlace=1),
        "odd-one-pixel.png": lambda: encoded(photo(1, 1), "PNG"),
        "odd-one-pixel.gif": lambda: encoded(photo(1, 1), "GIF"),
        "odd-large.jpg": lambda: encoded(photo(6000, 4000), "JPEG"),
        "odd-named-wrongly.png": lambda: encoded(photo(), "JPEG"),
        "odd-many-frames.gif": lambda: animation("GIF", 3000),
        "odd-many-frames.webp": lambda: animation("WEBP", 1000),
        "odd-many-frames.png": lambda: animation("PNG", 2000),
        "odd-many-pages.tif": lambda: animation("TIFF", 1000),
    }


def strange_shapes() -> dict[str, Callable[[], bytes]]:
    return {
        "shape-tall.png": lambda: png(1, 100_000, zlib.compress(bytes(400_000))),
        "shape-wide.png": lambda: png(100_000, 1, zlib.compress(bytes(300_001))),
        "shape-tall.tif": lambda: tiff_of(1, 100_000, zlib.compress(bytes(100_000))),
        "shape-wide.bmp": lambda: bmp(100_000, 1, bytes(300_000)),
        "shape-wide.jpg": lambda: encoded(Image.new("RGB", (60_000, 2)), "JPEG"),
        "shape-none.png": lambda: png(0, 0, zlib.compress(b"")),
        "shape-none.gif": lambda: gif(0, 0),
        "shape-none.bmp": lambda: bmp(0, 0, b""),
        "shape-negative.bmp": lambda: bmp(-5, -2_000_000_000, bytes(99)),
        "shape-huge.bmp": lambda: bmp(2**31 - 1, 2**31 - 1, bytes(99)),
    }


def other_formats() -> dict[str, Callable[[], bytes]]:
    """Real pictures in formats that are not read, under a name that is."""
    kinds = ["ICO", "ICNS", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "DDS", "EPS", "PDF", "AVIF", "IM", "MSP", "XBM"]
    picture = {"MSP": "1", "XBM": "1"}
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + bytes(99)
    real = {
        f"other-{kind.lower()}.png": partial(encoded, photo(64, 64, picture.get(kind, "RGB")), kind) for kind in kinds
    }
    return {**real, "other-psd.png": lambda: psd, "other-too-many-bytes.png": lambda: os.urandom(20_000_001)}


def broken_files() -> dict[str, Callable[[], bytes]]:
    """Every format cut off, cut short in its header, and with noise in its middle; and nothing at all."""
    cut: dict[str, Callable[[], bytes]] = {
        "empty.png": bytes,
        "empty.jpg": bytes,
        "noise.png": partial(os.urandom, 999),
    }
    for suffix, kind in FORMATS.items():
        whole = encoded(photo(200, 150), kind)
        middle = len(whole) // 2
        cut[f"cut-half.{suffix}"] = partial(bytes, whole[:middle])
        cut[f"cut-header.{suffix}"] = partial(bytes, whole[:20])
        cut[f"noise-inside.{suffix}"] = partial(bytes, whole[:middle] + bytes(range(256)) + whole[middle + 256 :])
    return cut


def _link(target: str, name: str, folder: Path) -> Path:
    (folder / name).symlink_to(target)
    return folder / name


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def _folder(folder: Path) -> Path:
    (folder / "folder.png").mkdir()
    return folder / "folder.png"


def _link_to_picture(folder: Path) -> Path:
    photo().save(folder / "real.png")
    return _link("real.png", "link-to-picture.png", folder)


def places() -> dict[str, Maker]:
    """Paths that are no plain file; the makers of names that are no honest names are in `names`."""
    return {
        "link-to-secret": partial(_link, SECRET, "link.png"),
        "link-to-folder": partial(_link, "/etc", "link.png"),
        "link-to-nothing": partial(_link, "/no/such/file", "link.png"),
        "link-to-itself": partial(_link, "link.png", "link.png"),
        "link-to-device": partial(_link, "/dev/zero", "link.png"),
        "link-to-picture": _link_to_picture,
        "pipe": _pipe,
        "folder": _folder,
        "device": lambda folder: Path("/dev/zero"),
        "memory-of-the-process": lambda folder: Path("/proc/self/mem"),
        "missing": lambda folder: folder / "missing.png",
        "name-up": lambda folder: folder / "../../../../../../../../etc/passwd.png",
        "name-with-nul": lambda folder: folder / "a\0.png",
        "name-too-long": lambda folder: folder / ("x" * 5000 + ".png"),
        "name-of-nothing": lambda folder: Path(""),
    }


def names() -> dict[str, str]:
    """File names that are honest to the file system and hostile to who prints them; the file is a broken picture."""
    return {
        "name-with-lines": "one\ntwo\r\nthree.png",
        "name-with-colours": "\x1b[31mred\x1b[0m\x07.png",
        "name-turned-round": "holiday\u202egnp.exe",
        "name-as-markup": "<img src=x onerror=alert(1)>.png",
        "name-long": "y" * 250 + ".png",
        "name-no-text": os.fsdecode(b"\xff\xfe\x80.png"),
        "name-windows": "..\\..\\windows\\system.ini.png",
        "name-hidden": ".png",
        "name-format": "%s%n{0.__class__}$(id)`id`.png",
    }


FAMILIES = (bombs, floods, polyglots, odd_pictures, strange_shapes, other_formats, broken_files)


def hostile_uploads() -> dict[str, Maker]:
    """Name of the case -> its maker."""
    files = {name: make for family in FAMILIES for name, make in family().items()}
    texts = {f"text-{name}": partial(str.encode, text) for name, text in TEXTS.items()}
    named = {case: partial(written, name, partial(bytes, b"\x89PNG\r\n")) for case, name in names().items()}
    return {**{name: partial(written, name, make) for name, make in {**files, **texts}.items()}, **places(), **named}
