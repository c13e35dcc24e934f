"""HTML elements as functions. Text is escaped, whatever it holds; what is an element already goes in as it is."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = ("meta", "img")


class Html(str):
    """Text that is HTML already."""


def element(name: str, /, *content: str, **attributes: str | int | None) -> Html:
    """`<name attributes>content</name>`.

    content: elements (`Html`) or text, which is escaped. attributes: values are escaped; None leaves one out;
    "class_" is written "class", "stroke_width" is written "stroke-width".
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opening = f"<{name}{written}>"
    return Html(opening if name in VOID else f"{opening}{joined(content)}</{name}>")


def joined(content: Iterable[str]) -> Html:
    """All content in a row; text is escaped."""
    return Html("".join(own if isinstance(own, Html) else escape(own) for own in content))
