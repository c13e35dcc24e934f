"""Variants of an assembly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from m2m.data.drawings.assembly import VISIBLE, assemble, changed_shares
from m2m.data.drawings.kanji import kanji_drawings
from m2m.data.drawings.rendering import BACKGROUND
from m2m.data.drawings.variants import SCALES, Palette, draw_variant
from tests.data.drawings.samples import bars, emoji

PAPER = ImageColor.getrgb(BACKGROUND)


@pytest.fixture(scope="module")
def burger() -> object:
    """The hamburger in steps."""
    return assemble(emoji("1f354")[0])


def test_variants_differ_and_come_again(burger) -> None:  # type: ignore[no-untyped-def]
    """One generator for all variants would give other pictures to a run that continues after some of them."""
    plain, third = draw_variant(burger, 0, 64, seed=0), draw_variant(burger, 3, 64, seed=0)
    assert np.array_equal(plain, draw_variant(burger, 0, 64, seed=9))
    assert np.array_equal(third, draw_variant(burger, 3, 64, seed=0))
    assert plain.shape == third.shape == (len(burger.counts), 64, 64, 3)
    others = [plain, draw_variant(burger, 4, 64, seed=0), draw_variant(burger, 3, 64, seed=1)]
    assert not any(np.array_equal(third, other) for other in others)


def test_every_step_of_a_variant_can_be_seen_and_keeps_what_is_there(burger) -> None:  # type: ignore[no-untyped-def]
    """A place or palette drawn anew for each step would move or recolour what was drawn before."""
    for number in range(1, 9):
        steps = draw_variant(burger, number, 64, seed=0)
        changes = changed_shares(steps)
        assert np.diagonal(changes, 1).min() >= VISIBLE * SCALES[0] ** 2 / 2
        kept = (steps[1:] == steps[:-1]).all(-1).mean((1, 2))
        assert kept.min() > 0.5
        assert (steps[:, 0, 0] == PAPER).all()


def test_a_palette_turns_hues_and_keeps_greys() -> None:
    """Half a turn makes red cyan; named and short colours are colours too; white stays within its range."""
    turn = Palette(hue=0.5)
    assert turn("#ff0000") == turn("red") == turn("#f00") == "#00ffff"
    assert turn("#808080") == "#808080" and Palette(lightness=1.15)("#ffffff") == "#ffffff"
    assert Palette()("#DD2E44") == "#dd2e44" and Palette(lightness=0.5)("#ff0000") == "#800000"


def test_a_palette_never_hides_a_step() -> None:
    """Shapes almost in the colour of the background, of which many palettes make just that colour."""
    found = assemble(bars(5, colour="#e6b3d9"))
    assert found is not None
    for number in range(1, 25):
        steps = draw_variant(found, number, 32, seed=0)
        assert np.diagonal(changed_shares(steps), 1).min() > 0


def test_what_reads_one_way_is_not_mirrored() -> None:
    """A mirrored character is none; the first stroke of this one is on the left."""
    (drawing,) = [drawing for drawing in kanji_drawings() if drawing.name == "kanji-04ed6"]
    assert not drawing.mirrors and len(drawing.layers) == 5
    found = assemble(drawing)
    assert found is not None and len(found.counts) == 5
    for number in range(12):
        first, *_, last = (picture < 100 for picture in draw_variant(found, number, 64, seed=0))
        columns = [ink.any((0, 2)).nonzero()[0] for ink in (first, last)]
        assert columns[0].max() < columns[1].mean()
