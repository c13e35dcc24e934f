"""Quality of models of a tiny world on held-out sets, beside what copying, knowing nothing and the renderer reach.

    python benchmarks/tiny_quality.py --model tiny-self --model tiny-dino --sets 200 --out out/tiny_quality
    python benchmarks/tiny_quality.py --model runs/self/model --sets 50 --steps 25 --sweep-guidance 1,1.5,2,3,5

Prints Markdown tables (what they mean: m2m/evaluation/truth/quality.py) and writes them to --out, with quality.json
and, for each model, grids (given | generated | rendered) of the first sets and of those that it got most wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from m2m.checkpoint import atomic_write, write_json
from m2m.data.grids import image_grid
from m2m.data.pictures import images_from_pixels
from m2m.data.worlds import World
from m2m.evaluation.truth.continuations import SampleConfig, autoencoded, continuations, unconditional
from m2m.evaluation.truth.held_out import HeldOutConfig, HeldOutSet, copies_of_last, held_out_sets, rendered
from m2m.evaluation.truth.labelled import LabelledConfig, render_labelled
from m2m.evaluation.truth.probe import TruthProbe, load_probe
from m2m.evaluation.truth.probe_training import accuracies
from m2m.evaluation.truth.quality import Quality, Readings, accuracy_table, freedom_table, read, score, share_right
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.pipeline import M2MPipeline
from m2m.types import UserError

CELL = 96  # pixels of a picture in a grid
PROBE_SEED = 2026  # of the pictures that the probe is tested on here; `m2m train-probe` uses its seed and the next one


class Bench:
    """World, probe and held-out sets of one run, and where its results go."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out = Path(options.out)
        self.world = World.load(options.world)
        self.probe: TruthProbe = load_probe(options.probe)
        self.probe.check_attributes(self.world.attributes)
        config = HeldOutConfig(split=options.split, sets=options.sets, seed=options.seed)
        self.sets: list[HeldOutSet] = held_out_sets(self.world, config)
        self.rendered: Readings = read(rendered(self.sets), self.probe)

    def probe_accuracy(self, images: int) -> dict[str, float]:
        """How exact the instrument is: share right, by attribute, on fresh renderings of everything there is."""
        config = LabelledConfig(self.world.name, images, self.probe.config.image_size, PROBE_SEED)
        fresh = render_labelled(config)
        return accuracies(self.probe.classify(fresh.pixels()), fresh.labels)

    def score(self, images: Tensor) -> Quality:
        """Score images [S, N, 3, H, W] of all sets."""
        return score(self.sets, images, self.rendered, self.probe, self.world)

    def baselines(self) -> dict[str, Quality]:
        """Rows that need no model."""
        return {
            "copy the last given": self.score(copies_of_last(self.sets)),
            "rendered": self.score(rendered(self.sets)),
        }

    def grids(self, images: Tensor, name: str, rows: int) -> None:
        """Write grids of the first sets, and of those whose images show least of what their captions fixed."""
        captions = [held_out.caption for held_out in self.sets]
        shares = share_right(read(images, self.probe), captions, self.world)
        for kind, chosen in (("first", range(rows)), ("worst", shares.argsort(stable=True)[:rows].tolist())):
            grid = set_grid([self.sets[s] for s in chosen], [images[s] for s in chosen])
            with atomic_write(self.out / f"{name}-{kind}.png") as path:
                grid.save(path, format="PNG")


def set_grid(sets: Sequence[HeldOutSet], generated: Sequence[Tensor]) -> Image.Image:
    """One row a set: given | generated | rendered, its caption at the left."""
    rows = [
        [image for part in (held_out.given, made, held_out.rendered) for image in images_from_pixels(part)]
        for held_out, made in zip(sets, generated, strict=True)
    ]
    widths = (len(sets[0].given), len(generated[0]), len(sets[0].rendered))
    columns = list(zip(("given", "generated", "rendered"), widths, strict=True))
    return image_grid(rows, columns=columns, row_labels=[held_out.caption.text for held_out in sets], cell=CELL)


def compare(bench: Bench, options: argparse.Namespace) -> dict[str, Quality]:
    """Every model, continued and unconditional, beside the baselines."""
    rows: dict[str, Quality] = {}
    for name, pipe in pipelines(options):
        config = SampleConfig(options.steps, options.guidance, options.batch, options.seed)
        images = continuations(pipe, bench.sets, config, reporter(name))
        rows[name] = bench.score(images)
        bench.grids(images, slug(name), min(options.grid_rows, len(bench.sets)))
        if not options.no_unconditional:
            rows[f"{name}, unconditional"] = bench.score(unconditional(pipe, bench.sets, config, reporter("alone")))
        rows[f"{name}, rendered and autoencoded"] = bench.score(autoencoded(pipe, rendered(bench.sets)))
    return rows | bench.baselines()


def sweep(bench: Bench, options: argparse.Namespace) -> dict[str, Quality]:
    """Every model at every guidance scale."""
    rows: dict[str, Quality] = {}
    for name, pipe in pipelines(options):
        for scale in options.sweep_guidance:
            label = f"{name}, guidance {scale:g}"
            config = SampleConfig(options.steps, scale, options.batch, options.seed)
            rows[label] = bench.score(continuations(pipe, bench.sets, config, reporter(label)))
    return rows | bench.baselines()


def pipelines(options: argparse.Namespace) -> Iterator[tuple[str, M2MPipeline]]:
    """The models by name, one at a time."""
    for name in options.model:
        pipe = load_pipeline(find_model(name), options.device)
        pipe.set_progress_bar_config(disable=True)
        yield name, pipe


def reporter(label: str) -> Callable[[int, int], None]:
    """Progress on stderr: what is done, and when the rest may be."""
    started = time.monotonic()

    def report(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        print(f"{label}: {done} of {total} sets, {left:.0f} s left", file=sys.stderr, flush=True)

    return report


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="folder, hub id or shipped name; again for more")
    parser.add_argument("--probe", default="probe-mini", help="a shipped probe, or a folder of `m2m train-probe`")
    parser.add_argument("--probe-images", type=int, default=1000, help="renderings that the probe is tested on")
    parser.add_argument("--world", default="mini", help="mini or full")
    parser.add_argument("--split", default="test", help="of the world's captions; default: subjects never trained on")
    parser.add_argument("--sets", type=int, default=200, help="how many held-out sets")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of an image")
    parser.add_argument("--guidance", type=float, default=None, help="guidance scale; default: the model's own")
    parser.add_argument("--sweep-guidance", type=scales, default=[], metavar="S,S,...", help="these scales instead")
    parser.add_argument("--no-unconditional", action="store_true", help="leave out that row and its time")
    parser.add_argument("--batch", type=int, default=20, help="sets of one call; changes the speed, not the images")
    parser.add_argument("--grid-rows", type=int, default=8, help="sets of a grid")
    parser.add_argument("--seed", type=int, default=0, help="of captions, renderings and noise")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--out", default="out/tiny_quality", help="folder of the results")
    return parser.parse_args(arguments)


def slug(name: str) -> str:
    """A model's name, which may be a path, as part of a file name."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.")


def scales(text: str) -> list[float]:
    """ "1,1.5,2" -> [1.0, 1.5, 2.0]."""
    return [float(word) for word in text.split(",")]


def run(options: argparse.Namespace) -> None:
    """Measure, print the tables and write everything to --out."""
    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench(options)
    rows = sweep(bench, options) if options.sweep_guidance else compare(bench, options)
    exact = bench.probe_accuracy(options.probe_images)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in exact.items())
    probed = f"The probe is right on {options.probe_images} fresh renderings in: {shares}."
    tables = f"{accuracy_table(rows)}\n\n{freedom_table(rows)}\n\n{probed}\n"
    print(tables, end="")
    with atomic_write(bench.out / "quality.md") as path:
        path.write_text(tables, encoding="utf-8")
    figures = {label: asdict(own) for label, own in rows.items()}
    write_json(bench.out / "quality.json", {"options": vars(options), "probe": exact, "quality": figures})


if __name__ == "__main__":
    try:
        run(parse())
    except UserError as error:
        sys.exit(f"tiny_quality: {error}")
