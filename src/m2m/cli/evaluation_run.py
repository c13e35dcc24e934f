"""What `m2m eval` does, from what was asked for to the report: generate, extract, score, write."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.evaluation.candidates import Candidate
    from m2m.evaluation.features.extractor import Extractor
    from m2m.evaluation.generation import GenerateConfig
    from m2m.evaluation.protocols.protocol import Origin, Protocol
    from m2m.evaluation.scoring import SourceScorer
    from m2m.evaluation.sets import EvaluationSets
    from m2m.evaluation.truth.truth import Truth
    from m2m.evaluation.workshop import Workshop
    from m2m.model_folder import ModelFolder
    from m2m.pipeline import M2MPipeline

Progress = Callable[[int, int], None]
SECONDS = 10.0  # between two lines of progress
NEEDED = ("torchmetrics", "matplotlib")  # by the numbers and the page, which come last


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; None leaves it to the protocol or the model."""

    models: tuple[str, ...]
    folders: tuple[Path, ...]
    data: str | None
    protocol: str
    out: Path
    sets: int
    given: int | None
    generated: int | None
    steps: int
    guidance: float | None
    condition_guidance: float | None
    windows: str
    extractors: tuple[str, ...] | None
    probe: str
    batch: int
    seed: int
    device: str


def run(asked: Asked) -> None:
    """Every process does its share of the images and features; the first scores and writes."""
    from accelerate import PartialState

    from m2m.evaluation.features.extractor import find_extractor
    from m2m.evaluation.protocols.known import find_protocol
    from m2m.evaluation.report.write import write_report
    from m2m.evaluation.work import Stopped, Work, alone_in
    from m2m.evaluation.workshop import Workshop
    from m2m.signals import stop_signals

    check_installed()
    protocol = find_protocol(asked.protocol)
    names = protocol.extractors if asked.extractors is None else asked.extractors
    asked = replace(asked, extractors=names)
    candidates = candidates_asked(asked)
    sets = sets_asked(asked, protocol, candidates)
    state: Any = PartialState(cpu=asked.device == "cpu")
    extractors = [find_extractor(name, asked.device) for name in names]
    # The processes of one launch share the folder: the first holds it for all, and none begins before.
    with stop_signals() as received, alone_in(asked.out) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        share = (state.process_index, state.num_processes)
        work = Work(share, lines if state.is_main_process else _silent, lambda: bool(received), state.wait_for_everyone)
        workshop = Workshop(asked.out, sets, candidates, generation_asked(asked, protocol), work)
        scorer = scorer_asked(asked, protocol, workshop, extractors)
        try:
            sources = protocol.sources(workshop)
            scorer.extract([own for row in sources.values() for own in row], work)
            if state.is_main_process:
                result = protocol.result(workshop, sources, scorer, asked.out, origin(asked, workshop))
                print(f"{result.title}: {write_report(result, asked.out)}")
        except Stopped:
            print("m2m: stopped; the same command goes on where it was", file=sys.stderr)
            raise typer.Exit(128 + received[0]) from None


def check_installed() -> None:
    """Raise UserError for what would be missed after hours of images."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"m2m eval needs {' and '.join(missing)}: pip install 'm2m-diffusion[eval]'")


def candidates_asked(asked: Asked) -> list[Candidate]:
    """The models, each loaded when it is first needed, with every window, and the folders of pictures."""
    from m2m.evaluation.candidates import Model, candidates_of, windows_of
    from m2m.model_folder import find_model

    found = [find_model(name) for name in asked.models]
    models = [Model(own.name, own.weight_digest(), cache(partial(_quiet_pipeline, own, asked.device))) for own in found]
    for folder in asked.folders:
        if not folder.is_dir():
            raise UserError(f"--images '{folder}' is no folder; give one with a sub-folder of pictures for each set")
    return candidates_of(models, windows_of(asked.windows), asked.folders)


def _quiet_pipeline(model: ModelFolder, device: str) -> M2MPipeline:
    """Its own progress bars, one an image, would bury the lines of progress."""
    from m2m.loading import load_pipeline

    pipe = load_pipeline(model, device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sets_asked(asked: Asked, protocol: Protocol, candidates: Sequence[Candidate]) -> EvaluationSets:
    """The sets, at the size of the first model's images; without a model as they are stored."""
    from m2m.evaluation.sets import EvaluationSets

    sizes = {own.model.name: own.model.load().image_size for own in candidates if own.model is not None}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"models of one evaluation must make images of one size; these make: {each} pixels")
    given, images = numbers_asked(asked, protocol)
    return EvaluationSets(
        asked.data or protocol.default_data(asked.sets),
        count=asked.sets,
        given=given,
        real=protocol.further(given, images),
        size=next(iter(sizes.values()), None),
        only=protocol.only,
        seed=asked.seed,
        cache_dir=asked.out / "shards",  # of URLs
        task=protocol.task_sets(given, images),
    )


def numbers_asked(asked: Asked, protocol: Protocol) -> tuple[int, int]:
    """How many images of a set are given, and how many are made."""
    given = asked.given or protocol.given
    return given, asked.generated or protocol.images_after(given)


def generation_asked(asked: Asked, protocol: Protocol) -> GenerateConfig:
    """How the images are made."""
    from m2m.evaluation.generation import GenerateConfig

    return GenerateConfig(
        images=numbers_asked(asked, protocol)[1],
        steps=asked.steps,
        guidance=asked.guidance,
        condition_guidance=asked.condition_guidance,
        seed=asked.seed,
        batch=asked.batch,
    )


def scorer_asked(asked: Asked, protocol: Protocol, workshop: Workshop, extractors: Sequence[Extractor]) -> SourceScorer:
    """Extractors behind caches in the output folder; the truth where the captions are the tiny world's."""
    from m2m.evaluation.features.cache import FeatureCache

    caches = [FeatureCache(asked.out / "features", own) for own in extractors]
    return protocol.scorer(workshop, caches, _truth(asked, workshop.sets), asked.device)


def _truth(asked: Asked, sets: EvaluationSets) -> Truth | None:
    from m2m.data.worlds import World
    from m2m.data.worlds.specs import WorldSpec, is_world
    from m2m.evaluation.truth.probe import load_probe
    from m2m.evaluation.truth.truth import truth_of

    if asked.probe == "none":
        return None
    probe = load_probe(asked.probe)
    world = WorldSpec.parse(asked.data).name if asked.data and is_world(asked.data) else "mini"
    return truth_of(probe, World.load(world), sets.captions)


def origin(asked: Asked, workshop: Workshop) -> Origin:
    """The command as it was typed, and what it was resolved to."""
    from m2m.evaluation.protocols.protocol import Origin
    from m2m.evaluation.versions import versions

    plain: dict[str, Any] = {"out": str(asked.out), "folders": [str(folder) for folder in asked.folders]}
    plain["windows"] = {own.label: str(own.window) for own in workshop.candidates if own.model is not None}
    settings = {name: value for name, value in (asdict(asked) | plain).items() if value is not None}
    settings |= workshop.sets.identity
    return Origin(shlex.join(["m2m", *sys.argv[1:]]), settings, versions())


def _silent(label: str) -> None:
    """Processes other than the first show nothing."""


def lines(label: str) -> Progress:
    """A line on stderr when a stage begins, at most one in SECONDS, and when it ends: what is done, what is left."""
    started = last = time.monotonic()
    first: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is not None and now - last < SECONDS and done < total:
            return
        first, last = done if first is None else first, now
        worked = done - first
        left = f", {(now - started) / worked * (total - done):.0f} s left" if worked and done < total else ""
        print(f"{label}: {done} of {total} sets{left}", file=sys.stderr, flush=True)

    return show
