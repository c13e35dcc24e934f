"""An SVG drawing as a stack of shapes, of which the first so many are drawn, placed and recoloured."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

SVG = "http://www.w3.org/2000/svg"
PAINTS = ("fill", "stroke")
NOT_DRAWN = {f"{{{SVG}}}{tag}" for tag in ("defs", "clipPath", "text")}
Recolour = Callable[[str], str]


class LayeredSvg:
    """The shapes of an SVG text, in the order in which they are painted: each lies on those before it.

    Raises ValueError for a text that is no SVG with a view box.
    """

    def __init__(self, text: str) -> None:
        try:
            self._root = ET.fromstring(text)
            self._fit = _fit([float(number) for number in re.split(r"[ ,]+", self._root.attrib["viewBox"].strip())])
        except (ET.ParseError, KeyError, ValueError) as error:
            raise ValueError(f"no SVG with a view box: {error}") from error

    def __len__(self) -> int:
        return sum(1 for _ in _shapes(self._root))

    def outlines(self) -> frozenset[tuple[tuple[str, str], ...]]:
        """What each shape is but for its colour: two drawings that share outlines were drawn from one another."""
        outlines = (sorted(shape.attrib.items()) for _, shape in _shapes(self._root))
        return frozenset(tuple((key, value) for key, value in outline if key not in PAINTS) for outline in outlines)

    def stacks(self, counts: Sequence[int], place: str = "", recolour: Recolour | None = None) -> list[str]:
        """SVG texts of the first `counts[i]` shapes, within the unit square.

        Args:
            counts: how many shapes, ascending.
            place: an SVG transform of the unit square, such as "translate(.1 .1) scale(.8)".
            recolour: what becomes of each colour ("#DD2E44", "red").
        """
        root = copy.deepcopy(self._root)
        shapes = list(_shapes(root))
        if recolour:
            _repaint(root, recolour)
        stacks = []
        # From the last to the first, so that what is drawn is never in question: shapes are only ever taken away.
        for count in reversed(counts):
            while len(shapes) > count:
                parent, shape = shapes.pop()
                parent.remove(shape)
            stacks.append(_placed(root, f"{place} {self._fit}"))
        return stacks[::-1]


@dataclass(frozen=True)
class Drawing:
    """One drawing.

    Attributes:
        name: for people, unique.
        family: drawings of one family show variants of one subject.
        text: the SVG.
        mirrors: whether it means the same in a mirror.
    """

    name: str
    family: str
    text: str
    mirrors: bool = True

    @cached_property
    def layers(self) -> LayeredSvg:
        """Its shapes."""
        return LayeredSvg(self.text)


def _shapes(parent: ET.Element) -> Iterator[tuple[ET.Element, ET.Element]]:
    """(parent, shape) of all that is painted, in its order; what only clips or is kept for later use is not painted."""
    for child in parent:
        if child.tag in NOT_DRAWN:
            continue
        if child.tag == f"{{{SVG}}}g":
            yield from _shapes(child)
        else:
            yield parent, child


def _repaint(root: ET.Element, recolour: Recolour) -> None:
    for element in root.iter():
        for paint in PAINTS:
            if element.get(paint, "none") != "none":
                element.set(paint, recolour(element.attrib[paint]))


def _placed(root: ET.Element, transform: str) -> str:
    sheet = ET.Element(f"{{{SVG}}}svg", viewBox="0 0 1 1")
    ET.SubElement(sheet, f"{{{SVG}}}g", transform=transform).extend(list(root))
    return ET.tostring(sheet, encoding="unicode")


def _fit(box: Sequence[float]) -> str:
    """The transform of a view box (left, top, width, height) into the middle of the unit square."""
    left, top, width, height = box
    scale = 1 / max(width, height)
    right, down = (1 - width * scale) / 2, (1 - height * scale) / 2
    return f"translate({right:.9g} {down:.9g}) scale({scale:.9g}) translate({-left:.9g} {-top:.9g})"
