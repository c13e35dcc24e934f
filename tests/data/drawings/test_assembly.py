"""Which shapes go down together."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.data.drawings.assembly import LEAST, MOST, PLAIN, VISIBLE, assemble, assemblies, changed_shares
from m2m.data.drawings.layers import Drawing
from m2m.data.drawings.rendering import render
from m2m.data.drawings.variants import draw_variant
from tests.data.drawings.samples import HEAD, bar, bars, emoji


def test_as_many_steps_as_can_be_seen() -> None:
    """Too few shapes make no procedure; more than MOST are put down together."""
    assert assemble(bars(LEAST - 1)) is None
    five, nine = assemble(bars(LEAST)), assemble(bars(9))
    assert five is not None and five.counts == (1, 2, 3, 4, 5)
    assert nine is not None and len(nine.counts) == MOST and nine.counts[-1] == 9


def test_shapes_too_small_to_see_go_with_others() -> None:
    """A short thin line is no step: the model would learn to repeat the picture."""
    lines = "".join(f'<path fill="#226699" d="M{3 * x} 28h1v8h-1z"/>' for x in range(12))
    found = assemble(Drawing("fine", "fine", HEAD + "".join(map(bar, range(4))) + lines + "</svg>"))
    assert found is not None and found.counts[:4] == (1, 2, 3, 4)
    assert min(np.diff(found.counts)[3:]) > 1
    assert assemble(bars(9, height=0.2)) is None


def test_hidden_shapes_change_nothing() -> None:
    """A shape on one of its own colour cannot be seen when it is put down."""
    hidden = '<path fill="#226699" d="M4 5h9v2H4z"/>'
    shapes = bar(0) + bar(1) + hidden + bar(2) + hidden + bar(3) + bar(4)
    found = assemble(Drawing("hidden", "hidden", f"{HEAD}{shapes}</svg>"))
    assert found is not None and len(found.counts) == 5


def test_the_cut_is_the_most_even_one() -> None:
    """Any cut whose steps are visible would do for a filter, but nine bars in five steps should be one or two each."""
    shapes = "".join(f'<path fill="#226699" d="M{4 * x} 0h4v9H{4 * x}z"/>' for x in range(9))
    found = assemble(Drawing("small", "small", f"{HEAD}{shapes}</svg>"))
    assert found is not None and set(np.diff((0, *found.counts)).tolist()) <= {1, 2}


def test_changed_shares() -> None:
    """A share of pixels, not of colour values; a change of one channel counts, a faint one does not."""
    pictures = np.full((3, 4, 4, 3), 100, np.uint8)
    pictures[1:, 0, :, 1] = 200
    pictures[2, 1, :] = 120
    assert np.allclose(changed_shares(pictures), [[0, 0.25, 0.25], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("code", ["1f354", "1f682", "1f435"])
def test_emoji_steps_can_all_be_seen_and_end_with_the_whole(code: str) -> None:
    """The burger, the locomotive and the monkey's face: no step without change, and none of the drawing left out."""
    (drawing,) = emoji(code)
    (found,) = assemblies([drawing])
    assert LEAST <= len(found.counts) <= MOST and found.counts[-1] == len(drawing.layers)
    steps = draw_variant(found, 0, 64, seed=0)
    empty = render(drawing.layers.stacks([0], PLAIN), 64)
    changes = changed_shares(np.concatenate([empty, steps]))
    assert min(np.diagonal(changes, 1)) >= VISIBLE
    assert np.array_equal(steps[-1], found.finished)


def test_progress_counts_every_drawing() -> None:
    """Those that are left out count too, else the line stops before its end."""
    seen: list[tuple[int, int]] = []
    assemblies([bars(2), bars(5)], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
