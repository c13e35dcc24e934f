"""A result as an evaluation of the tiny world leaves it: made-up numbers of the right size, real pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from m2m.data.worlds import World
from m2m.evaluation.report.grids import given_generated_real
from m2m.evaluation.result import Better, Measure, Picture, Result, Role, Row, Table
from m2m.evaluation.sets import EvaluationSet

SELF, DINO = "tiny-self", "tiny-dino <b>&"
REAL, COPY, SHUFFLED, ALONE = "real against real", "copy of the last given", "shuffled contexts", "unconditional"
CLIP = "clip:ViT-B/32"


@dataclass(frozen=True)
class Kind:
    """A measure and about what each row of `ROWS` has of it; drift: change over the positions of a model."""

    name: str
    extractor: str
    better: Better
    levels: tuple[float, float, float, float, float, float]
    drift: float = 0.0


ROWS: tuple[tuple[str, Role, str], ...] = (
    (SELF, "model", ""),
    (COPY, "floor", "the last given image, ten times"),
    (REAL, "ceiling", "other images of the same sets"),
    (DINO, "model", "all images seen"),
    (SHUFFLED, "floor", "what was made for another set"),
    (ALONE, "floor", "made without any given image"),
)
# Levels in the order of ROWS.
KINDS = (
    Kind("FD", "efficientnet-lite0", "lower", (41.2, 23.9, 22.4, 37.8, 41.2, 468), 9),
    Kind("KID", "efficientnet-lite0", "lower", (5.6, 0.9, -0.04, 4.1, 5.6, 73), 2),
    Kind("IS", "efficientnet-lite0", "higher", (14.1, 16.0, 16.2, 14.9, 14.1, 4.2), -1),
    Kind("Image-Image", "efficientnet-lite0", "higher", (71, 84, 74, 72.5, 31, 24), -4),
    Kind("diversity", "efficientnet-lite0", "", (27, 0, 33, 29, 27, 61), 3),
    Kind("Text-Image CLIP", CLIP, "higher", (22.7, 23.4, 23.6, 23.1, 15.2, 14.8), -0.6),
    Kind("Image-Image CLIP", CLIP, "higher", (76.3, 88.0, 78.1, 77.4, 55.0, 51.3), -2),
    Kind("CMMD", CLIP, "lower", (0.61, 0.22, 0.03, 0.48, 0.61, 4.7), 0.2),
    Kind("subject", "truth probe", "higher", (84, 97, 98, 88, 1.2, 0.8), -9),
    Kind("style", "truth probe", "higher", (91, 98, 98.5, 92, 22, 21), -5),
    Kind("count", "truth probe", "higher", (79, 97, 97, 83, 27, 26), -7),
    Kind("background", "truth probe", "higher", (88, 99, 99, 91, 12, 11), -6),
    Kind("freedom", "truth probe", "", (93, 0, 100, 95, 93, 118), 0),
    Kind("near-copies", "pixels", "lower", (1.9, 100, 0.9, 1.4, 0.1, 0.0), 0.5),
)


def sample_result(
    positions: Sequence[int] = range(1, 11), pictures: Sequence[Picture] = (), kinds: Sequence[Kind] = KINDS
) -> Result:
    """Two models, a ceiling, three floors, 14 measures of 4 extractors."""
    chance = random.Random(0)
    rows = tuple(
        Row(name, role, tuple(_measure(kind, number, role, len(positions), chance) for kind in kinds), note)
        for number, (name, role, note) in enumerate(ROWS)
    )
    return Result(
        title="Table 1 on the tiny world <mini> & friends",
        protocol="table1",
        reading="Two models continue 300 sets of 4 given images by 10 images each. A good model is close to the "
        "ceiling, and clear of every floor.",
        axis="generated image",
        positions=tuple(positions),
        rows=rows,
        command="m2m eval --model tiny-self --data 'world:mini:test:300' --out \"out/eval\" && echo '<done>'",
        settings={"sets": 300, "steps": 50, "guidance": None, "data": {"spec": "world:mini:test:300"}, "window": "all"},
        versions={"m2m": "0.5.0", "torch": "2.13.0"},
        tables=(
            Table(
                "Worst sets", ("caption", "right, %"), (("two <cats> | & a_dog", "12"), ("birds", "15")), "By truth."
            ),
        ),
        pictures=tuple(pictures),
        notes=("3 sets had fewer than 4 images & were left out.",),
    )


def _measure(kind: Kind, row: int, role: Role, positions: int, chance: random.Random) -> Measure:
    level = kind.levels[row]
    noise = 0.0 if kind.name == "freedom" or level in (0, 100) else abs(level) * 0.012
    drift = kind.drift / max(1, positions - 1) if role == "model" else 0.0
    most = 100.0 if kind.extractor in ("truth probe", "pixels") and kind.name != "freedom" else float("inf")
    values = tuple(min(most, level + drift * place + chance.gauss(0, noise)) for place in range(positions))
    if kind.name in ("freedom", "diversity"):
        return Measure(kind.name, kind.extractor, kind.better, (None, *values[1:]))
    if kind.name in ("KID", "IS", "CMMD"):
        return Measure(kind.name, kind.extractor, kind.better, values)
    low, high = (tuple(min(most, value + side * 3 * noise) for value in values) for side in (-1, 1))
    mean = sum(values) / positions
    return Measure(kind.name, kind.extractor, kind.better, values, low, high, (mean - 2 * noise, mean + 2 * noise))


def sample_sets(sets: int, given: int, real: int, seed: int = 0) -> list[EvaluationSet]:
    """Rendered sets of the mini world."""
    world = World.load("mini")
    found = []
    for number, caption in enumerate(world.captions("test", sets, seed)):
        images = torch.from_numpy(np.stack(world.sample_set(caption, range(100 * number, 100 * number + given + real))))
        found.append(EvaluationSet(str(number), caption.text, images[:given], images[given:], None))
    return found


def sample_sheet(folder: Path, name: str, sets: int = 8, images: int = 10, seed: int = 0) -> Picture:
    """A sheet of sets, 4 images given, further renderings for generated ones and for 4 real ones; its picture."""
    rendered = sample_sets(sets, given=4, real=images + 4, seed=seed)
    shown = [EvaluationSet(own.key, own.caption, own.given, own.real[images:], None) for own in rendered]
    given_generated_real(shown, [own.real[:images] for own in rendered]).save(folder / name)
    return Picture(f"Sets {seed}", name, "Given, generated & real images.")
