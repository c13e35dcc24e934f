"""The source of a folder of shards, opened again from what its build.json says and where its parts lie now.

build.json names no place of any machine: captions, weights and pictures are known by their digests. Whether what is
opened here is the same is told by comparing identities, as every build does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from m2m.data.factory.recipes import captions_recipe, open_source
from m2m.data.factory.sources import SetSource
from m2m.data.generators import GeneratorOptions
from m2m.types import UserError


@dataclass(frozen=True)
class Places:
    """Where the parts of a build lie on this machine; those that a build does not have stay None.

    captions: folder of captions; generator: as "diffusers:DIR_OR_HUB_ID" (the tiny world needs none); safety_checker:
    "model" or DIR_OR_HUB_ID, for a build that had one; device: where the generator runs; pictures: folder of real
    pictures, or of the shards of pictures that latents are of; annotations: instances file of COCO; autoencoder: folder
    of the one that made latents.
    """

    captions: Path | None = None
    generator: str | None = None
    safety_checker: str = "model"
    device: str = "auto"
    pictures: Path | None = None
    annotations: Path | None = None
    autoencoder: Path | None = None


def source_opener(settings: dict[str, Any], places: Places) -> Callable[[], SetSource]:
    """A function that opens the source of a folder with these settings (of its build.json), which may take a while.

    Raises UserError at once for a part whose place is not given (it names the option), and settings of no known source.
    """
    kind = settings.get("source")
    openers = {"captions": _captions, "folder": _folder, "coco": _coco}
    if kind not in openers:
        raise UserError(f"sets of the source '{kind}' cannot be made again here; there are {', '.join(openers)}")
    try:
        return openers[kind](settings, places)
    except (KeyError, TypeError) as error:
        raise UserError(f"the settings of this {kind} build are not whole: {error!r}") from error


def _captions(settings: dict[str, Any], places: Places) -> Callable[[], SetSource]:
    folder = given(places.captions, "--captions", "folder of captions")
    options = _generator_options(settings["generator"], settings["batch"], places)
    recipe = captions_recipe(
        str(folder),
        asdict(options),
        split=settings["split"],
        images_per_set=settings["images_per_set"],
        seed=settings["seed"],
        sets=settings["sets"],
    )
    return partial(open_source, recipe)


def _generator_options(stated: dict[str, Any], batch: int, places: Places) -> GeneratorOptions:
    """The options of the generator that describes itself as `stated` in the settings."""
    if stated["name"].startswith("world:"):
        return GeneratorOptions(stated["name"], size=stated["size"], batch=batch)
    spec = given(places.generator, "--generator diffusers:DIR_OR_HUB_ID", stated["name"])
    optional = {name: stated[name] for name in ("steps", "guidance_scale") if stated[name] is not None}
    return GeneratorOptions(
        str(spec),
        size=stated["size"],
        batch=batch,
        scheduler=stated["scheduler"]["class"],
        dtype=stated["dtype"],
        device=places.device,
        compile=stated["compile"],
        channels_last=stated["channels_last"],
        safety_checker=places.safety_checker if stated["safety_checker_sha256"] else "off",
        **optional,
    )


def _folder(settings: dict[str, Any], places: Places) -> Callable[[], SetSource]:
    from m2m.data.real_sets import FolderOptions, FolderSets

    folder = given(places.pictures, "--pictures", "folder of pictures")
    names = ("size", "min_images", "max_images")
    # What was left out of the build as broken is left out again; a picture that broke since changes the identity.
    options = FolderOptions(Path(folder), skip_broken=True, **{name: settings[name] for name in names})
    return partial(FolderSets, options)


def _coco(settings: dict[str, Any], places: Places) -> Callable[[], SetSource]:
    from m2m.data.real_sets import CocoOptions, CocoSets

    annotations = given(places.annotations, "--annotations", "instances file")
    pictures = given(places.pictures, "--pictures", "folder of images")
    names = ("size", "images_per_set", "sets_per_category", "min_area", "seed")
    chosen = {name: settings[name] for name in names}
    return partial(CocoSets, CocoOptions(Path(annotations), Path(pictures), skip_broken=True, **chosen))


def given(place: Path | str | None, option: str, what: str) -> Path | str:
    """The place; raises UserError, with the option that gives it, where it is None."""
    if place is None:
        raise UserError(f"to make shards again, say with {option} where the build's {what} lies now")
    return place
