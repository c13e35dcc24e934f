"""The strokes of kanji in the order in which they are written (PyPI `kanjivg`).

KanjiVG is CC BY-SA 3.0: pictures of it, and perhaps what is trained on them, may be passed on under that licence alone.
So no weights trained on it may be bundled with this package; it is for a user's own experiments.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, files

from m2m.data.drawings.layers import Drawing
from m2m.types import UserError

NUMBERS = '<g id="kvg:StrokeNumbers'  # small figures beside the strokes, after them
THIN, PEN = "stroke-width:3", "stroke-width:6"  # of 109: a stroke of 3 would be less than two pixels wide at 64
IDEOGRAPHS = range(0x4E00, 0xA000)


def kanji_drawings() -> list[Drawing]:
    """All Chinese characters of the package, by code, each a family of its own. Raises UserError without `steps`."""
    try:
        paths = files("kanjivg") or []
    except PackageNotFoundError as error:
        raise UserError("kanji need kanjivg: pip install 'm2m-diffusion[steps]'") from error
    # "04e00.svg"; variants of a character have names such as "04e14-Kaisho.svg".
    plain = sorted((path for path in paths if re.fullmatch(r"kanji/[0-9a-f]{5}\.svg", str(path))), key=str)
    return [
        Drawing(f"kanji-{path.stem}", path.stem, _strokes(path.read_text(encoding="utf-8")), mirrors=False)
        for path in plain
        if int(path.stem, 16) in IDEOGRAPHS
    ]


def _strokes(text: str) -> str:
    """The drawing without stroke numbers and without the document type, with a broader pen."""
    return text[text.index("<svg") : text.index(NUMBERS)].replace(THIN, PEN) + "</svg>"
