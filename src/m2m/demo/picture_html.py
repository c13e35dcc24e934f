"""Pictures inside the page itself, as data: addresses. No file of a picture is ever written, so none is left behind."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from PIL import Image

SHARP_SIDE = 256  # pixels; up to here pictures are sent as they are
SIDE = 384  # larger ones are sent as JPEG of at most this side

# A click on a picture of a strip tells its number; the strip's content may be replaced at any time.
TELL_NUMBER = """
element.addEventListener('click', event => {
    const button = event.target.closest('[data-index]');
    if (button) trigger('select', {index: Number(button.dataset.index)});
});
"""


def strip(pictures: Sequence[Image.Image], chosen: int | None, empty: str, name: str) -> str:
    """A row of buttons, one a picture, or the text `empty`. name: what one picture is called, for screen readers."""
    if not pictures and not empty:
        return ""
    if not pictures:
        return f'<p class="m2m-empty">{escape(empty)}</p>'
    tiles = [_tile(picture, number, number == chosen, name) for number, picture in enumerate(pictures)]
    return f'<div class="m2m-strip">{"".join(tiles)}</div>'


def _tile(picture: Image.Image, number: int, chosen: bool, name: str) -> str:
    pressed = "true" if chosen else "false"
    label = f"{name} {number + 1}"
    image = f'<img src="{address(picture)}" alt="{label}">'
    return f'<button type="button" data-index="{number}" aria-pressed="{pressed}" title="{label}">{image}</button>'


def example_strip(sets: Sequence[Sequence[Image.Image]], names: Sequence[str]) -> str:
    """One button a set, with its first pictures side by side."""
    tiles = []
    for number, (pictures, name) in enumerate(zip(sets, names, strict=True)):
        images = "".join(f'<img src="{address(picture)}" alt="">' for picture in pictures)
        label = escape(name, quote=True)
        tiles.append(f'<button type="button" data-index="{number}" title="{label}">{images}<i>{label}</i></button>')
    return f'<div class="m2m-examples">{"".join(tiles)}</div>'


def single(picture: Image.Image | None, text: str) -> str:
    """One picture by itself; nothing where there is none."""
    if picture is None:
        return ""
    return f'<figure class="m2m-single"><img src="{address(picture)}" alt="{escape(text, quote=True)}"></figure>'


def animation(gif: bytes | None) -> str:
    """A GIF by itself; nothing where there is none."""
    if gif is None:
        return ""
    return f'<figure class="m2m-single"><img src="{_data("image/gif", gif)}" alt="turn-around"></figure>'


def line(text: str, wrong: bool = False) -> str:
    """One line of text for the visitor."""
    kind, role = ("m2m-wrong", "alert") if wrong else ("m2m-line", "status")
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'


def address(picture: Image.Image) -> str:
    """The picture as a data: address."""
    file = BytesIO()
    if max(picture.size) <= SHARP_SIDE:
        picture.save(file, "PNG")
        return _data("image/png", file.getvalue())
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    small.save(file, "JPEG", quality=90)
    return _data("image/jpeg", file.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"
