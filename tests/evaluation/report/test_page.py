"""The page: well-formed, whole in itself, and safe from what data and users write."""

from __future__ import annotations

import base64
import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.evaluation.report.elements import Html, element
from m2m.evaluation.report.page import LARGEST_PNG, POLICY, html_page
from m2m.evaluation.result import Picture, Result
from m2m.types import UserError
from tests.evaluation.report.samples import DINO, KINDS, ROWS, sample_result

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that elements close in order; keeps tags, attributes, and the text of headings and of all cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, own in self.tags if (value := own.get(attribute)) is not None]


def small(**changes: object) -> Result:
    """Two measures, three positions: quick to draw."""
    return dataclasses.replace(sample_result(range(1, 4), kinds=(KINDS[0], KINDS[8])), **changes)  # type: ignore[arg-type]


def saved(path: Path, width: int, noise: bool) -> Picture:
    values = np.random.default_rng(0).integers(0, 256 if noise else 1, (width // 8, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return Picture("A <sheet>", path.name, 'by "truth" & <more>')


def test_elements_escape_text_and_attributes_and_keep_elements() -> None:
    """Guards against markup out of captions, and against elements that are escaped twice."""
    inner = element("b", "<&>")
    assert (
        element("p", inner, 'x"<', class_='a"b', id=None) == '<p class="a&quot;b"><b>&lt;&amp;&gt;</b>x&quot;&lt;</p>'
    )
    assert element("img", src="a") == '<img src="a">'
    assert isinstance(inner, Html)


def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    """Guards against tags that are not closed, and against anything that a machine without a network would miss."""
    page = html_page(small(pictures=(saved(tmp_path / "a.png", 32, noise=False),)), tmp_path)
    read = Reader(page)
    assert all(own.startswith("data:image/") for own in read.values("src"))
    assert all(own.startswith("#") for own in read.values("href"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in read.tags}
    assert POLICY in read.values("content")
    assert {own[1:] for own in read.values("href")} <= set(read.values("id"))


def test_text_of_data_stays_text(tmp_path: Path) -> None:
    """Guards against a title, a row, a caption or a setting that becomes markup."""
    evil = "<script>alert(1)</script>&amp;"
    result = small(title=evil, reading=evil, command=evil, notes=(evil,), settings={evil: {evil: evil}})
    read = Reader(html_page(result, tmp_path))
    assert "script" not in {tag for tag, _ in read.tags}
    assert read.texts["h1"] == [evil] and read.texts["code"] == [evil] and read.texts["li"][-1] == evil
    assert DINO in read.texts["th"] and "two <cats> | & a_dog" in read.texts["th"]


def test_every_row_is_introduced_with_its_role_and_note(tmp_path: Path) -> None:
    """Guards against a floor that a reader takes for a model."""
    read = Reader(html_page(small(), tmp_path))
    classes = [own.get("class") for tag, own in read.tags if tag == "tr"][: len(ROWS)]
    assert classes == ["model", "model", "ceiling", "floor", "floor", "floor"]
    assert set(read.texts["span"]) == {"floor", "ceiling"}
    assert all(note in read.texts["td"] for _, _, note in ROWS if note)


def test_a_result_of_one_position_has_no_curves(tmp_path: Path) -> None:
    """Guards against plots of single points, and a mean over one position."""
    read = Reader(html_page(sample_result(range(1, 2), kinds=KINDS[8:10]), tmp_path))
    assert "img" not in {tag for tag, _ in read.tags}
    assert "Generated image 1" in read.texts["h4"]


def test_large_pictures_are_shrunk_and_small_ones_kept_to_the_bit(tmp_path: Path) -> None:
    """Guards against a page of tens of megabytes, and against tiny sheets that lose their pixels."""
    pictures = saved(tmp_path / "small.png", 64, noise=False), saved(tmp_path / "large.png", 2400, noise=True)
    assert (tmp_path / "large.png").stat().st_size > 6 * LARGEST_PNG
    page = html_page(sample_result(range(1, 2), pictures=pictures, kinds=KINDS[:1]), tmp_path)
    kept, shrunk = (base64.b64decode(own.partition(",")[2]) for own in Reader(page).values("src"))
    assert kept == (tmp_path / "small.png").read_bytes()
    assert Image.open(io.BytesIO(shrunk)).size == (1600, 200)
    assert len(shrunk) < (tmp_path / "large.png").stat().st_size / 3


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Guards against a page with a hole in it."""
    with pytest.raises(UserError, match=r"gone\.png' does not exist"):
        html_page(sample_result(range(1, 2), pictures=[Picture("a", "gone.png")], kinds=KINDS[:1]), tmp_path)
