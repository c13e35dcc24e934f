"""Rendered pictures with their truth: what the probe is trained and tested on.

Every attribute is drawn on its own and evenly, whatever the splits say, for the probe must know what models never saw:
all subjects, all pairs of subject and style, and the drawings of the artist that no model is trained on.

A folder holds `labelled.json` and parts of 4096 pictures, `part-0000.safetensors` and on, each with `images` (uint8
[M, S, S, 3]) and, for every attribute, `labels.NAME` (int64 [M]). A run that was cut off goes on at a missing part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import load_tensors, read_json, save_tensors, write_json
from m2m.data.pictures import to_pixels
from m2m.data.worlds import Caption, World
from m2m.data.worlds.rendering import render_sets
from m2m.data.worlds.vocabulary import ARTIST_STYLES
from m2m.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

PART = 4096  # pictures of one file
UNSEEN_ARTIST = 0.15  # share of the pictures in filter styles that are by the artist never trained on
MANIFEST = "labelled.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelledConfig:
    """What a folder of labelled pictures holds: so many of a world, drawn by a seed, `size` pixels wide."""

    world: str = "mini"
    images: int = 24_576
    size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Labelled:
    """Pictures and their truth. images: uint8 [M, S, S, 3]; labels: attribute -> indices of values, int64 [M].

    By name, not in columns: a config that went through JSON has its attributes in another order.
    """

    images: Tensor
    labels: dict[str, Tensor]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.images)

    def pixels(self) -> Tensor:
        """All pictures as float32 [M, 3, S, S] in [-1, 1]."""
        return to_pixels(self.images)


class LabelledStream:
    """Labelled pictures as batches; the batch of a step is a pure function of (seed, step)."""

    def __init__(self, labelled: Labelled) -> None:
        self._labelled = labelled
        self._kept: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def batch(self, size: int, seed: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels [size, 3, S, S] in [-1, 1] and labels by attribute, [size] each, of one step."""
        chosen = [self._at(step * size + b, seed) for b in range(size)]
        labels = {name: own[chosen] for name, own in self._labelled.labels.items()}
        return to_pixels(self._labelled.images[chosen]), labels

    def _at(self, position: int, seed: int) -> int:
        """The picture at a position of the endless stream: every epoch shows each once, in an order of its own."""
        epoch, place = divmod(position, len(self._labelled))
        # The newest order is kept: nearly all steps lie within one epoch.
        if self._kept is None or self._kept[0] != (seed, epoch):
            order = np.random.default_rng((seed, 0, epoch)).permutation(len(self._labelled))
            self._kept = ((seed, epoch), order)
        return int(self._kept[1][place])


def truth_captions(world: World, count: int, seed: int) -> list[Caption]:
    """Captions that fix everything, each attribute drawn evenly and on its own."""
    generator = np.random.default_rng((seed, 0))
    return [_truth_caption(world, generator) for _ in range(count)]


def _truth_caption(world: World, generator: np.random.Generator) -> Caption:
    drawn = {name: values[int(generator.integers(len(values)))] for name, values in world.attributes.items()}
    by_artist = generator.random() < UNSEEN_ARTIST
    drawn.pop("category")  # it follows from the subject
    return Caption(**drawn, unseen_artist=bool(by_artist) and drawn["style"] not in ARTIST_STYLES)


def labels_of(captions: list[Caption], world: World) -> dict[str, Tensor]:
    """Attribute -> indices into its values, int64 [M], of captions that fix everything."""
    import torch

    index = {name: {value: i for i, value in enumerate(values)} for name, values in world.attributes.items()}
    fixed = [caption.fixed for caption in captions]
    return {name: torch.tensor([index[name][own[name]] for own in fixed]) for name in index}


def render_labelled(config: LabelledConfig, part: int = 0, workers: int = 0) -> Labelled:
    """Render part `part` of what a config describes, in `workers` processes (0: in this one)."""
    import torch

    world = World.load(config.world)
    captions = truth_captions(world, config.images, config.seed)[part * PART : (part + 1) * PART]
    # The scene's seed: of its own for every picture of every part and seed.
    state = np.random.SeedSequence((config.seed, 1, part)).generate_state(len(captions))
    seeds = [[int(word)] for word in state]
    rendered = render_sets(config.world, [caption.text for caption in captions], seeds, config.size, workers)
    images = np.concatenate(list(rendered))
    return Labelled(torch.from_numpy(images), labels_of(captions, world))


def labelled_folder(
    folder: str | Path, config: LabelledConfig, workers: int = 0, progress: Progress | None = None
) -> Labelled:
    """The labelled pictures of a folder, in memory; what is missing of them is rendered first.

    progress: called with (pictures there, pictures in all) after each part that was rendered.
    Raises UserError where the folder holds other pictures.
    """
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, config)
    parts: list[dict[str, Tensor]] = []
    names = {name: f"labels.{name}" for name in World.load(config.world).attributes}
    for part in range(-(-config.images // PART)):
        path = folder / f"part-{part:04d}.safetensors"
        if not path.exists():
            made = render_labelled(config, part, workers)
            save_tensors({"images": made.images, **{names[name]: own for name, own in made.labels.items()}}, path)
            if progress:
                progress(min(config.images, (part + 1) * PART), config.images)
        parts.append(load_tensors(path, expected=("images", *names.values())))
    whole = {name: torch.cat([part[name] for part in parts]) for name in ("images", *names.values())}
    return Labelled(whole["images"], {name: whole[stored] for name, stored in names.items()})


def _claim(folder: Path, config: LabelledConfig) -> None:
    """Note what the folder is for, or check that it is for this."""
    wanted = asdict(config)
    if not (folder / MANIFEST).exists():
        write_json(folder / MANIFEST, wanted)
        return
    found = read_json(folder / MANIFEST)
    if found != wanted:
        raise UserError(f"'{folder}' holds other labelled pictures: {found}, not {wanted}; name another folder")
