"""Recipes: a source as JSON values, from which a worker on another machine opens the same source."""

from __future__ import annotations

from typing import Any

from m2m.data.factory.sources import GeneratedSets, SetSource, wanted_sets
from m2m.types import UserError


def captions_recipe(
    captions: str,
    generator: dict[str, Any],
    split: str = "train",
    images_per_set: int = 25,
    seed: int = 0,
    sets: int | None = None,
) -> dict[str, Any]:
    """The recipe of `GeneratedSets`.

    captions: a folder of captions that every worker can read; generator: the fields of `GeneratorOptions`.
    """
    return {
        "source": "captions",
        "captions": captions,
        "generator": generator,
        "split": split,
        "images_per_set": images_per_set,
        "seed": seed,
        "sets": sets,
    }


def open_source(recipe: dict[str, Any]) -> SetSource:
    """The source of a recipe; generators are loaded here. Raises UserError where a part is missing or unknown."""
    if recipe.get("source") != "captions":
        raise UserError(f"there is no source of sets '{recipe.get('source')}'; there is 'captions'")
    from m2m.data.captions.store import CaptionStore
    from m2m.data.generators import GeneratorOptions, open_generator

    store = CaptionStore.open(recipe["captions"])
    split, images, sets = recipe["split"], recipe["images_per_set"], recipe["sets"]
    wanted_sets(store, split, images, sets)  # a mistake is told now, not after minutes of loading
    generator = open_generator(GeneratorOptions(**recipe["generator"]))
    return GeneratedSets(store, split, generator, images, recipe["seed"], sets)
