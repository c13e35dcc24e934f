"""Small SVG drawings in the manner of emoji, and a few real ones."""

from __future__ import annotations

from m2m.data.drawings.layers import Drawing, LayeredSvg
from m2m.data.drawings.twemoji import name_of, twemoji_drawings

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36">'


def bar(number: int, colour: str = "#226699", height: float = 4) -> str:
    """One of nine bars that fill a drawing from top to bottom."""
    return f'<path fill="{colour}" d="M0 {4 * number}h36v{height}H0z"/>'


def bars(count: int, name: str = "bars", colour: str = "#226699", height: float = 4) -> Drawing:
    shapes = "".join(bar(number, colour, height) for number in range(count))
    return Drawing(name, name, f"{HEAD}{shapes}</svg>")


def grouped() -> LayeredSvg:
    """Three shapes of which a group holds the second; a clipping shape and a definition, which are none."""
    kept = '<defs><circle id="a" r="1"/></defs><clipPath id="b"><circle r="9"/></clipPath>'
    return LayeredSvg(f'{HEAD}{kept}{bar(0, "red")}<g fill="#00ff00">{bar(1, "#00ff00")}</g>{bar(2, "#0000ff")}</svg>')


def emoji(*codes: str) -> list[Drawing]:
    """Drawings of the package by their codes, in its order."""
    names = [name_of(code) for code in codes]
    return [drawing for drawing in twemoji_drawings() if drawing.name in names]
