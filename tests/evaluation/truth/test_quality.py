"""Scores of held-out sets: closed forms, and that copies and right answers get what they deserve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from m2m.data.pictures import to_pixels
from m2m.data.worlds import Caption, World
from m2m.evaluation.truth.held_out import HeldOutConfig, HeldOutSet, copies_of_last, held_out_sets, rendered
from m2m.evaluation.truth.quality import (
    accuracy_table,
    entropies,
    entropy_ratio,
    free_attributes,
    freedom_table,
    near_copies,
    read,
    right_by_set,
    score,
    share_right,
)
from tests.evaluation.truth.random_probe import random_probe

WORLD = World.load("mini")


@pytest.fixture(scope="module")
def sets() -> list[HeldOutSet]:
    return held_out_sets(WORLD, HeldOutConfig(sets=6, generated=3, reference=25))


def truth(captions: list[Caption], seeds: range) -> dict[str, torch.Tensor]:
    """What a probe without a mistake would read off rendered sets."""
    scenes = [[WORLD.scene(caption, seed).attributes for seed in seeds] for caption in captions]
    return {
        name: torch.tensor([[values.index(scene[name]) for scene in row] for row in scenes])
        for name, values in WORLD.attributes.items()
    }


def test_entropies_have_their_closed_forms() -> None:
    """Guards against a logarithm of another base, or counts that are not shares."""
    indices = torch.tensor([[7, 7, 7, 7], [1, 1, 2, 2], [2, 1, 2, 1], [0, 1, 2, 3], [5, 5, 5, 0]])
    skewed = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    wanted = torch.tensor([0, math.log(2), math.log(2), math.log(4), skewed], dtype=torch.float64)
    torch.testing.assert_close(entropies(indices), wanted)


def test_entropy_ratio_is_one_for_like_sets_and_nothing_where_rendered_sets_do_not_vary() -> None:
    """Guards against a mean of ratios, infinite where one rendered set happens not to vary, for a ratio of means."""
    constant, varied = torch.zeros(1, 4, dtype=torch.long), torch.arange(4)[None]
    mixed = torch.cat([constant, varied])
    assert entropy_ratio(mixed, mixed) == pytest.approx(1)
    assert entropy_ratio(torch.cat([varied, constant]), mixed) == pytest.approx(1)
    assert entropy_ratio(torch.cat([constant, constant]), mixed) == pytest.approx(0)
    assert entropy_ratio(varied, constant) is None
    assert entropy_ratio(varied[:0], constant[:0]) is None
    with pytest.raises(ValueError, match="cannot be compared"):
        entropy_ratio(varied, varied[:, :3])  # fewer images have less entropy by themselves


def test_right_is_counted_for_fixed_attributes_alone_and_place_by_place() -> None:
    """Guards against judging what the caption left free, and against mixing sets and places up."""
    captions = [Caption.parse("three cats, sketch style"), Caption.parse("things on a blue grid")]
    found = truth(captions, range(2))
    right = right_by_set(found, captions, WORLD)
    assert {name: list(own.shape) for name, own in right.items()} == {name: [1, 2] for name in WORLD.attributes}
    assert all(bool(own.all()) for own in right.values())
    found["style"][0, 1] = WORLD.attributes["style"].index("flat")
    found["style"][1] = WORLD.attributes["style"].index("flat")  # free in the second set
    assert right_by_set(found, captions, WORLD)["style"].tolist() == [[True, False]]
    swapped = {name: own.flip(0) for name, own in found.items()}
    assert not right_by_set(swapped, captions, WORLD)["background"].any()
    assert share_right(truth(captions, range(2)), captions, WORLD).tolist() == [1, 1]


def test_free_means_that_rendered_sets_vary() -> None:
    """Guards against asking a model for several subjects where the world has only one to show."""
    one, many = Caption.parse("two unseen birds"), Caption.parse("two unseen things")
    assert len(WORLD.pool(one)) == 1 < len(WORLD.pool(many))
    assert free_attributes(one, WORLD) == {"style", "background"}
    assert free_attributes(many, WORLD) == {"subject", "category", "style", "background"}
    assert free_attributes(Caption.parse("birds"), WORLD) == {"subject", "style", "count", "background"}


def test_a_copy_is_near_and_a_fresh_rendering_is_not(sets: list[HeldOutSet]) -> None:
    """Guards against a distance or a limit that lets copies through, of any of the given images, or condemns all."""
    copies = torch.stack([held_out.given[:3] for held_out in sets])
    assert near_copies(sets, copies).all()
    noise = torch.randn(copies.shape, generator=torch.Generator().manual_seed(0))
    assert near_copies(sets, copies + 0.01 * noise).all()
    others = [to_pixels(np.stack(WORLD.sample_set(own.caption, range(900, 903)))) for own in sets]
    assert near_copies(sets, torch.stack(others)).float().mean() < 0.2
    assert not near_copies(sets, copies.roll(1, dims=0)).any()  # a copy from another set is no copy of this one


def test_scores_of_rendered_sets_and_of_copies(sets: list[HeldOutSet]) -> None:
    """Guards against scores that do not tell the ceiling from a copy; the probe is random, so only freedom is meant."""
    probe = random_probe(WORLD.attributes)
    readings = read(rendered(sets), probe)
    best = score(sets, rendered(sets), readings, probe, WORLD)
    copied = score(sets, copies_of_last(sets), readings, probe, WORLD)
    ratios = [ratio for ratio in best.freedom.values() if ratio is not None]
    assert ratios and ratios == pytest.approx([1.0] * len(ratios))
    assert all(ratio is None or ratio == pytest.approx(0) for ratio in copied.freedom.values())
    assert copied.near_copies == (1.0, 1.0)
    assert best.fixed["category"] == sum("category" in own.caption.fixed for own in sets)
    assert all(shares is None or all(0 <= share <= 1 for share in shares) for shares in copied.right.values())


def test_tables_have_a_row_a_model_and_no_gaps(sets: list[HeldOutSet]) -> None:
    """Guards against a table that breaks where no caption fixes an attribute, or none leaves it free."""
    probe = random_probe(WORLD.attributes)
    one = [own for own in sets if "style" not in own.caption.fixed][:1]
    quality = score(one, rendered(one), read(rendered(one), probe), probe, WORLD)
    for table in (accuracy_table({"a": quality, "b": quality}), freedom_table({"a": quality, "b": quality})):
        lines = table.splitlines()
        assert [line.split("|")[1].strip() for line in lines[2:]] == ["a", "b"]
        assert len({line.count("|") for line in lines}) == 1
    assert "| - |" in accuracy_table({"a": quality})
