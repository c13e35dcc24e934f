"""A whole evaluation at the smallest size: a random pipeline, a few sets of the tiny world, cheap extractors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from m2m.data.worlds import World
from m2m.evaluation.candidates import OWN, Candidate, Model, candidates_of, windows_of
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.features.extractor import find_extractor
from m2m.evaluation.generation import GenerateConfig
from m2m.evaluation.protocols.known import find_protocol
from m2m.evaluation.protocols.protocol import Origin
from m2m.evaluation.result import Result
from m2m.evaluation.scoring import Scorer
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.truth.probe import load_probe
from m2m.evaluation.truth.truth import Truth
from m2m.evaluation.work import Work
from m2m.evaluation.workshop import Workshop
from m2m.pipeline import M2MPipeline
from tests.tiny import tiny_pipeline

ORIGIN = Origin("m2m eval", {"seed": 0}, {"m2m": "0"})


@cache
def pipeline() -> M2MPipeline:
    """One for all tests: nothing trains it."""
    pipe = tiny_pipeline("self")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def candidates(*windows: str) -> list[Candidate]:
    """The pipeline through these windows, as "random"."""
    seen = windows_of(",".join(windows) or OWN)
    return candidates_of([Model("random", "digest", pipeline)], seen, [])


def evaluated(name: str, folder: Path, sets: int, images: int, given: int = 2, windows: tuple[str, ...] = ()) -> Result:
    """The result of a protocol, its pictures in `folder`."""
    protocol = find_protocol(name)
    found = EvaluationSets(
        protocol.default_data(sets), sets, given, images, size=pipeline().image_size, only=protocol.only
    )
    config = GenerateConfig(images=images, steps=1, batch=sets)
    workshop = Workshop(folder, found, candidates(*windows), config, Work())
    caches = [FeatureCache(folder / "features", find_extractor(extractor)) for extractor in ("colour",)]
    scorer = Scorer(found, caches, Truth(load_probe(), World.load("mini"), found.captions))
    sources = protocol.sources(workshop)
    scorer.extract([own for row in sources.values() for own in row], Work())
    return protocol.result(workshop, sources, scorer, folder, ORIGIN)
