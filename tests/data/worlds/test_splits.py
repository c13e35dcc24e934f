"""What is held out stays held out: captions, and whatever the seed draws."""

from __future__ import annotations

import pytest

from m2m.data.worlds import SPLITS, Caption, World
from m2m.data.worlds.splits import is_held_out, is_withheld, split_of
from m2m.data.worlds.vocabulary import UNSEEN_ARTIST, subjects
from m2m.types import UserError

UNSEEN_FAMILY = "emojione"


@pytest.fixture(scope="module", params=["mini", "full"])
def world(request: pytest.FixtureRequest) -> World:
    return World.load(request.param)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_content_holds_nothing_held_out(world: World, split: str) -> None:
    """Guards against leaks through what the seed draws, not only through what captions say."""
    for seed, caption in enumerate(world.captions(split, 600, seed=2)):
        scene = world.scene(caption, seed)
        assert not is_held_out(scene.subject)
        assert not is_withheld(scene.subject, scene.style)
        assert scene.style != UNSEEN_ARTIST
        assert scene.family != UNSEEN_FAMILY


def test_each_held_out_split_shows_what_it_is_for(world: World) -> None:
    """Guards against an evaluation that measures trained content by mistake."""
    for seed, caption in enumerate(world.captions("test", 200, seed=3)):
        assert is_held_out(world.scene(caption, seed).subject)
        assert world.scene(caption, seed).family != UNSEEN_FAMILY
    for seed, caption in enumerate(world.captions("unseen-pair", 200, seed=3)):
        scene = world.scene(caption, seed)
        assert is_withheld(scene.subject, scene.style)
    for seed, caption in enumerate(world.captions("unseen-artist", 200, seed=3)):
        scene = world.scene(caption, seed)
        assert scene.family == UNSEEN_FAMILY
        assert not is_held_out(scene.subject)


def test_splits_are_disjoint_and_total(world: World) -> None:
    """Guards against a caption that is trained on and evaluated on."""
    drawn = {split: set(world.captions(split, 400, seed=4)) for split in SPLITS}
    for split, captions in drawn.items():
        assert {split_of(caption) for caption in captions} == {split}
    assert len(set().union(*drawn.values())) == sum(map(len, drawn.values()))


def test_a_free_caption_never_draws_held_out_content_even_beside_it(world: World) -> None:
    """Guards against a pool that depends on the caller's split instead of on the caption."""
    for seed in range(200):
        assert not is_held_out(world.scene("things", seed).subject)
        scene = world.scene("hamburgers", seed)
        assert not is_withheld(scene.subject, scene.style)


def test_every_category_and_style_can_be_shown(world: World) -> None:
    """Guards against a training caption with nothing left to draw from."""
    for category in world.attributes["category"]:
        for style in world.styles:
            assert world.pool(Caption(category=category, style=style))


def test_sizes_of_the_splits() -> None:
    """Guards against silent changes of the splits: weights trained before would be judged on what they have seen."""
    mini, full = World.load("mini"), World.load("full")
    assert len(mini.subjects) == 48
    assert len(mini.attributes["category"]) == 12
    assert {name for name in mini.subjects if is_held_out(name)} == {
        "fox", "songbird", "tropical fish", "pineapple", "croissant", "lollipop", "locomotive", "dress",
    }  # fmt: skip
    assert sum(is_withheld(name, style) for name in mini.subjects for style in mini.styles) == 16
    assert is_withheld("hamburger", "watercolour")
    assert len(full.subjects) == 1042
    assert len(full.attributes["category"]) == 78
    assert sum(map(is_held_out, full.subjects)) == 105
    assert all(sum(s.category == name for s in subjects().values()) >= 5 for name in full.attributes["category"])


def test_each_attribute_is_fixed_often_and_free_often(world: World) -> None:
    """Guards against a mix of captions in which some attribute can hardly be evaluated."""
    captions = world.captions("train", 600, seed=5)
    for name, low, high in (
        ("subject", 0.35, 0.65),
        ("category", 0.65, 0.95),
        ("style", 0.35, 0.65),
        ("count", 0.35, 0.65),
        ("background", 0.35, 0.65),
    ):
        assert low < sum(name in caption.fixed for caption in captions) / len(captions) < high, name
    assert all(caption.fixed for caption in captions)


def test_captions_repeat_only_when_the_split_is_used_up() -> None:
    """Guards against an endless loop on a small split, and against repeats long before its end."""
    world = World.load("mini")
    captions = world.captions("unseen-pair", 1200, seed=0)  # 16 pairs x 5 counts x 9 backgrounds = 720
    assert len(captions) == 1200
    assert len(set(captions)) > 650
    assert len(set(world.captions("train", 1000, seed=0))) == 1000


def test_unknown_split_is_a_user_error() -> None:
    """Guards against an empty list for a misspelt split."""
    with pytest.raises(UserError, match="no split 'tset'"):
        World.load("mini").captions("tset", 1, 0)
