"""The bundled drawings: complete, named, attributed, small."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from m2m.data.worlds.sprites import SIDE, families, sprite
from m2m.data.worlds.vocabulary import ARTIST_STYLES, ASSETS, categories, subjects

LICENCES = {
    "noto": "Apache-2.0",
    "noto-v1": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "fluent-emoji-flat": "MIT",
    "fluent-emoji": "MIT",
    "emojione": "CC-BY-4.0",
}


@pytest.mark.parametrize("family", LICENCES)
def test_every_family_is_attributed(family: str) -> None:
    """Guards against drawings that are shipped without the credit their licence asks for."""
    rows = (ASSETS / "ATTRIBUTION.md").read_text().splitlines()
    row = next(row for row in rows if row.startswith(f"| {family} |"))
    assert LICENCES[family] in row
    assert "https://github.com/" in row


@pytest.mark.parametrize("family", LICENCES)
def test_every_family_draws_every_subject(family: str) -> None:
    """Guards against tables that were rebuilt without the archive."""
    with zipfile.ZipFile(ASSETS / f"{family}.zip") as archive:
        assert set(archive.namelist()) == {f"{subject.key}.webp" for subject in subjects().values()}


def test_archive_is_what_the_styles_need_and_small() -> None:
    """Guards against a repository that grows past what it promises, and against a style without drawings."""
    assert set(families()) == set(ARTIST_STYLES.values()) == set(LICENCES)
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < 20_000_000
    assert {subject.category for subject in subjects().values()} == set(categories())


@pytest.mark.parametrize("family", LICENCES)
def test_drawings_fill_their_square(family: str) -> None:
    """Guards against a drawing that came out blank or tiny, e.g. for a font that is not there."""
    for subject in list(subjects().values())[::25]:
        drawing = sprite(family, subject.key)
        assert drawing.mode == "RGBA"
        assert drawing.size == (SIDE, SIDE)
        left, top, right, bottom = drawing.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
        assert max(right - left, bottom - top) >= SIDE - 2


def test_decoding_is_lazy() -> None:
    """Guards against a world that decodes 6,000 drawings to show one."""
    sprite.cache_clear()
    sprite("twemoji", "cat")
    assert sprite.cache_info().currsize == 1


def test_notice_names_the_artists() -> None:
    """Guards against a distribution whose NOTICE forgets the bundled art."""
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    for author in ("Google", "Twitter", "Microsoft", "Emoji One", "emojibase"):
        assert author in notice
