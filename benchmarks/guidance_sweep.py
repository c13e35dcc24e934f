"""How a task model's two guidance scales (equation 7) change what it makes: a grid of s_I x s_C, as numbers and a plot.

    python benchmarks/guidance_sweep.py --protocol novel-view --model runs/views/model --data views/validation
    python benchmarks/guidance_sweep.py --protocol visual-procedure --model runs/steps/model --data steps/validation \\
        --sets 40 --context 1,2,3 --condition 0,1,2,3,4 --images 1 --threads 1 --out out/guidance_sweep

Every point is an evaluation of the same sets with the same noise; its measures are those of `m2m eval`. Images that are
there are not made again. Writes sweep.json and sweep.png to --out, a panel a measure, and prints the best points.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from m2m.checkpoint import atomic_write, write_json
from m2m.evaluation.candidates import Candidate, Model, Window
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.features.extractor import find_extractor
from m2m.evaluation.generation import GenerateConfig
from m2m.evaluation.protocols.known import find_protocol
from m2m.evaluation.protocols.task_protocol import TaskProtocol
from m2m.evaluation.result import Measure
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.work import Work
from m2m.evaluation.workshop import Workshop
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.types import UserError

COLUMNS = 3
PANEL = (3.4, 2.9)  # inches


@dataclass(frozen=True)
class Point:
    """One pair of scales. measures: label -> mean over positions and sets; intervals: of it, where there are any."""

    context: float
    condition: float
    measures: dict[str, float]
    intervals: dict[str, tuple[float, ...]]
    better: dict[str, str]


class Sweep:
    """The sets, the model and the measures that all points share."""

    def __init__(self, options: argparse.Namespace) -> None:
        protocol = find_protocol(options.protocol)
        if not isinstance(protocol, TaskProtocol):
            raise UserError(f"protocol '{options.protocol}' is of no task; use novel-view or visual-procedure")
        found = find_model(options.model)
        load = cache(lambda: _quiet(load_pipeline(found, options.device)))
        self._protocol, self._options = protocol, options
        self._candidate = Candidate(found.name, Model(found.name, found.weight_digest(), load), Window())
        given = options.given or protocol.given
        self._images = options.images or protocol.images_after(given)
        self._sets = EvaluationSets(
            options.data,
            count=options.sets,
            given=given,
            real=protocol.further(given, self._images),
            size=load().image_size,
            seed=options.seed,
            task=protocol.task_sets(given, self._images),
        )
        self._out = Path(options.out)
        caches = [FeatureCache(self._out / "features", find_extractor(name)) for name in protocol.extractors]
        self._scorer = protocol.scorer(self._workshop(), caches, None, options.device)

    def point(self, context: float, condition: float) -> Point:
        """Make and measure the images of one pair of scales."""
        workshop = self._workshop(context, condition)
        answers = self._protocol.answers(workshop, self._candidate)
        self._scorer.extract(answers, Work())
        places = [self._scorer.score(own) for own in answers]
        measures = self._protocol.row(self._candidate.label, places, workshop).measures
        return _point(context, condition, measures)

    def _workshop(self, context: float = 1.0, condition: float = 1.0) -> Workshop:
        options = self._options
        config = GenerateConfig(
            images=self._images,
            steps=options.steps,
            guidance=context,
            seed=options.seed,
            batch=options.batch,
            condition_guidance=condition,
        )
        folder = self._out / f"context-{context:g}-condition-{condition:g}"
        return Workshop(folder, self._sets, [self._candidate], config, Work())


def _point(context: float, condition: float, measures: Sequence[Measure]) -> Point:
    there = {own.label: own for own in measures if own.mean is not None}
    return Point(
        context,
        condition,
        {label: float(own.mean or 0.0) for label, own in there.items()},
        {label: own.mean_interval for label, own in there.items()},
        {label: own.better for label, own in there.items()},
    )


def best(points: Sequence[Point], label: str) -> Point:
    """The point with the best mean of a measure."""
    pick = min if points[0].better[label] == "lower" else max
    return pick(points, key=lambda point: point.measures[label])


def draw(points: Sequence[Point], path: Path) -> None:
    """A heat map a measure; the best point has a frame."""
    from matplotlib.figure import Figure

    labels = list(points[0].measures)
    lines = -(-len(labels) // COLUMNS)
    figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * lines), dpi=140, layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flatten()
    for axes, label in zip(panels, labels, strict=False):
        _panel(axes, points, label)
    for axes in panels[len(labels) :]:
        axes.set_axis_off()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def _panel(axes: Any, points: Sequence[Point], label: str) -> None:
    from matplotlib.patches import Rectangle

    across, up = (sorted({getattr(point, name) for point in points}) for name in ("condition", "context"))
    values = {(point.condition, point.context): point.measures[label] for point in points}
    table = [[values.get((x, y), float("nan")) for x in across] for y in up]
    better = points[0].better[label]
    axes.imshow(table, origin="lower", aspect="auto", cmap="viridis_r" if better == "lower" else "viridis")
    for (x, y), value in values.items():
        place = across.index(x), up.index(y)
        axes.text(*place, f"{value:.3g}", ha="center", va="center", fontsize=8, bbox={"fc": "white", "lw": 0, "pad": 1})
    top = best(points, label)
    corner = across.index(top.condition) - 0.5, up.index(top.context) - 0.5
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
    axes.set_title(f"{label}\n{better} is better", fontsize=9)
    axes.set_xticks(range(len(across)), [f"{x:g}" for x in across])
    axes.set_yticks(range(len(up)), [f"{y:g}" for y in up])
    axes.set_xlabel("s_C, condition")
    axes.set_ylabel("s_I, context")


def table(points: Sequence[Point]) -> str:
    """Markdown: the best point of every measure."""
    lines = ["| measure | best | s_I | s_C |", "|---|---:|---:|---:|"]
    for label in points[0].measures:
        own = best(points, label)
        lines.append(f"| {label} | {own.measures[label]:.3f} | {own.context:g} | {own.condition:g} |")
    return "\n".join(lines)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scales(text: str) -> list[float]:
    """ "1,2,3.5" as numbers."""
    return [float(part) for part in text.split(",")]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", required=True, help="novel-view or visual-procedure")
    parser.add_argument("--model", required=True, help="a task model: folder, hub id or shipped name")
    parser.add_argument("--data", required=True, help="shards of its task; not those that results are told of")
    parser.add_argument("--context", type=scales, default=scales("1,1.5,2,3"), help="s_I, with commas between them")
    parser.add_argument("--condition", type=scales, default=scales("0,1,2,3"), help="s_C, likewise")
    parser.add_argument("--sets", type=int, default=30, help="how many sets")
    parser.add_argument("--given", type=int, help="given images of a set; default: the protocol's")
    parser.add_argument("--images", type=int, help="images made of a set; default: the protocol's; 1: next steps alone")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps of an image")
    parser.add_argument("--batch", type=int, default=20, help="sets of one call; of no influence on the images")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of sets and of the noise")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--out", default="out/guidance_sweep", help="folder of images and results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every point; write what is there after each, print the best at the end."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    sweep, points = Sweep(options), list[Point]()
    grid = [(context, condition) for context in options.context for condition in options.condition]
    for context, condition in grid:
        began = time.monotonic()
        points.append(sweep.point(context, condition))
        took = time.monotonic() - began
        print(f"s_I {context:g}, s_C {condition:g}: {len(points)} of {len(grid)}, {took:.0f} s", file=sys.stderr)
        plain = {"options": vars(options), "points": [asdict(point) for point in points]}
        write_json(Path(options.out) / "sweep.json", plain)
    draw(points, Path(options.out) / "sweep.png")
    print(table(points))


if __name__ == "__main__":
    main()
