"""Seeds of images, and the choice of a generator."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from m2m.data.generators import GeneratorOptions, image_seed, open_generator
from m2m.types import UserError


def test_seeds_stay_as_they_are() -> None:
    """Another hash, byte order or separator would silently make another data set than the one begun last year."""
    assert image_seed("0123456789abcdef01234567", 0) == 6960129858651328523
    assert image_seed("0123456789abcdef01234567", 24, seed=3) == 3738214718920961799


def test_seeds_differ_by_caption_index_and_seed() -> None:
    """Joined without a mark between, caption 1 with index 23 would get the noise of caption 12 with index 3."""
    ids = ("1", "12", "2")
    seeds = {image_seed(name, index, seed) for name in ids for index in (*range(25), 123) for seed in (0, 1, 2)}
    assert len(seeds) == 3 * 26 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_options_survive_json() -> None:
    """A worker on another machine opens its generator from them."""
    options = GeneratorOptions("world:mini", size=32, batch=4)
    assert GeneratorOptions(**json.loads(json.dumps(asdict(options)))) == options


@pytest.mark.parametrize("spec", ["", "world", "world:", "diffusers:", "worlds:mini", "mini", "world:huge"])
def test_an_unknown_generator_is_refused(spec: str) -> None:
    """The message says what there is."""
    with pytest.raises(UserError, match=r"there is no generator .*diffusers:DIR_OR_HUB_ID|no tiny world 'huge'"):
        open_generator(GeneratorOptions(spec))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"steps": 0}, {"size": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    """Asked before a model is loaded."""
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is 0"):
        GeneratorOptions("world:mini", **wrong)  # type: ignore[arg-type]
