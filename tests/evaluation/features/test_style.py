"""Style as a number: on the tiny world the same style is alike and the same subject is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.data.worlds import Caption, World
from m2m.evaluation.features.style import ColourStyle, GramStyle, StyleExtractor, oklab, reference_drawings
from tests.evaluation.features.drawings import drawings

SUBJECTS = ("cat", "banana", "bicycle", "owl", "rose", "drum")
STYLES = ("flat", "pixel art", "watercolour", "sketch")


@pytest.fixture(scope="module", params=[ColourStyle, GramStyle])
def extractor(request: pytest.FixtureRequest) -> StyleExtractor:
    made: StyleExtractor = request.param()
    return made


@pytest.fixture(scope="module")
def rendered() -> Tensor:
    """Two pictures of each subject in each style, on any background: uint8 [6 x 4 x 2, 64, 64, 3]."""
    world = World.load("mini")
    captions = [Caption(subject=subject, style=style) for subject in SUBJECTS for style in STYLES]
    images = [world.render(caption, 10 * index + k) for index, caption in enumerate(captions) for k in range(2)]
    return torch.from_numpy(np.stack(images))


def test_the_same_style_is_closer_than_the_same_subject(extractor: StyleExtractor, rendered: Tensor) -> None:
    """Guards against a style score that sees what is shown, and one that finds everything alike."""
    embeddings = F.normalize(extractor.extract(rendered).embeddings, dim=1)
    similarity = 100 * embeddings @ embeddings.T
    subject = torch.arange(len(SUBJECTS)).repeat_interleave(2 * len(STYLES))
    style = torch.arange(len(STYLES)).repeat_interleave(2).repeat(len(SUBJECTS))
    same_subject, same_style = subject[:, None] == subject, style[:, None] == style
    by_style = float(similarity[same_style & ~same_subject].mean())
    by_subject = float(similarity[~same_style & same_subject].mean())
    neither = float(similarity[~same_style & ~same_subject].mean())
    assert by_style > by_subject + 15  # 20 or more, as measured; the pictures are the same ones every time
    assert abs(by_subject - neither) < 10
    assert -20 < neither < 20


def test_where_things_are_says_nothing(extractor: StyleExtractor, rendered: Tensor) -> None:
    """Guards against a measure of composition, which is free in a set."""
    found = extractor.extract(torch.cat([rendered[:2], rendered[:2].flip(2)])).embeddings
    assert F.cosine_similarity(found[:2], found[2:]).min() > (0.999 if isinstance(extractor, ColourStyle) else 0.9)


def test_the_references_lie_around_the_origin(extractor: StyleExtractor) -> None:
    """Guards against a centre of other statistics: unrelated pictures would all be alike again."""
    found = extractor.extract(reference_drawings()).embeddings
    assert found.shape == (64, extractor.dim)
    assert found.mean(0).norm() < 1e-3 * found.norm(dim=1).mean()


def test_both_have_an_identity_of_their_own_that_stays(extractor: StyleExtractor) -> None:
    """Guards against a fingerprint of something random, with which nothing cached is found again."""
    again = type(extractor)()
    assert again.identity == extractor.identity and again.identity.startswith(f"{extractor.name}:")
    pictures = drawings(3)
    assert torch.equal(again.extract(pictures).embeddings, extractor.extract(pictures).embeddings)


def test_oklab_has_its_known_values() -> None:
    """Guards against encoded values taken for linear ones, or rows for columns."""
    colours = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    wanted = torch.tensor([[1, 0, 0], [0, 0, 0], [0.628, 0.225, 0.126], [0.452, -0.032, -0.312]])
    assert (oklab(colours) - wanted).abs().max() < 1e-3
