"""What each option of the objective does to quality and to drift, at tiny size and equal budgets.

    python benchmarks/objective_ablation.py --trunk runs/self --steps 400 data=runs/data/shards
    python benchmarks/objective_ablation.py --trunk runs/self --arms baseline,rollout --steps 100 --sets 20

Every arm starts from the same trunk and cools down over as many steps as the budget pays for; then it continues
held-out sets for `--images` images through a sliding window of four: from the fifth on it sees its own images alone.
The budget is counted in U-Net passes with a gradient; a pass without one counts a third. An arm that is done is not
trained again. Prints a Markdown table and writes it, with ablation.json, to --out.

    right        mean over the attributes of the share of images that show what the caption fixed
    slope        of `right` by place, percent an image (least squares): the drift
    freedom      mean over the free attributes of the entropy, percent of that of rendered sets
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2m.checkpoint import atomic_write, read_json, write_json
from m2m.cli.main import main as m2m
from m2m.config import load_config
from m2m.data.worlds import World
from m2m.evaluation.truth.continuations import SampleConfig, continuations
from m2m.evaluation.truth.held_out import HeldOutConfig, HeldOutSet, held_out_sets, rendered
from m2m.evaluation.truth.probe import load_probe
from m2m.evaluation.truth.quality import Readings, entropy_ratio, free_attributes, near_copies, read, right_by_set
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.training.image_sets import TrainConfig
from m2m.training.state import checkpoints

ARMS: dict[str, list[str]] = {
    "baseline": [],
    "noise_draws 1": ["objective.noise_draws=1"],
    "shared_timestep": ["objective.shared_timestep=true"],
    "context_noise 200": ["objective.context_noise=200"],
    "null_context zeros": ["null_context=zeros"],
    "min-SNR 5": ["objective.min_snr_gamma=5"],
    "random set length": ["objective.random_set_length=true"],
    "rollout 0.25": ["objective.rollout_probability=0.25", "objective.rollout_steps=4"],
    "zero terminal SNR": ["zero_terminal_snr=true"],
}
WINDOW = 4


@dataclass(frozen=True)
class Row:
    """Figures of one arm, in percent; right by place."""

    arm: str
    steps: int
    right: list[float]
    slope: float
    freedom: float
    near_copies: list[float]


def passes(config: TrainConfig) -> float:
    """U-Net passes with a gradient that a set costs in a step of M2M-Self, on average."""
    objective, images = config.objective, config.images_per_set
    lengths = range(2, images + 1) if objective.random_set_length else [images]
    trained = float(np.mean([n * objective.noise_draws + n - 1 for n in lengths]))
    # A sample reads the keys and values of the 1..N-2 images before it.
    sampled = objective.rollout_probability * (objective.rollout_steps + (images - 1) / 2) / 3
    return trained + sampled


def train_arm(name: str, settings: Sequence[str], options: argparse.Namespace) -> tuple[Path, int]:
    """The finished pipeline of an arm, and how many steps its budget paid for."""
    own = [*options.settings, *settings]
    wanted = load_config(TrainConfig, options.config, own)
    baseline = load_config(TrainConfig, options.config, options.settings)
    steps = max(1, round(options.steps * passes(baseline) / passes(wanted)))
    start = int(read_json(checkpoints(options.trunk)[-1] / "state.json")["step"])
    out = Path(options.out) / name.replace(" ", "-")
    budget = [f"steps={start + steps}", "schedule=wsd", f"cooldown_steps={steps}", "sample_every=0", "validate_every=0"]
    places = [f"branch={options.trunk}", f"out={out / 'run'}", f"export={out / 'model'}"]
    if not (out / "model").exists():
        with redirect_stdout(sys.stderr):
            if code := m2m(["train", "--config", str(options.config), *own, *budget, *places]):
                raise SystemExit(code)
    return out / "model", steps


class Judge:
    """Held-out sets and the probe that reads what their continuations show."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._world = World.load("mini")
        self._probe = load_probe("probe-mini")
        config = HeldOutConfig(sets=options.sets, generated=options.images, seed=options.seed)
        self._sets: list[HeldOutSet] = held_out_sets(self._world, config)
        self._rendered: Readings = read(rendered(self._sets), self._probe)

    def row(self, arm: str, steps: int, model: Path) -> Row:
        """The figures of a finished pipeline."""
        pipe = load_pipeline(find_model(str(model)), "cpu")
        pipe.set_progress_bar_config(disable=True)
        config = SampleConfig(
            self._options.denoising, batch=self._options.batch, seed=self._options.seed, window=WINDOW
        )
        images = continuations(pipe, self._sets, config)
        found = read(images, self._probe)
        right = self._right(found)
        slope = float(np.polyfit(np.arange(len(right)), right.numpy(), 1)[0])
        copied = 100 * near_copies(self._sets, images).float().mean(0)
        return Row(arm, steps, right.tolist(), slope, self._freedom(found), copied.tolist())

    def _right(self, found: Readings) -> Tensor:
        """Percent right by place [N], mean over the attributes that captions fix."""
        by_set = right_by_set(found, [own.caption for own in self._sets], self._world)
        return 100 * torch.stack([flags.float().mean(0) for flags in by_set.values() if len(flags)]).mean(0)

    def _freedom(self, found: Readings) -> float:
        ratios = []
        for name in self._world.attributes:
            free = torch.tensor([name in free_attributes(own.caption, self._world) for own in self._sets])
            ratios.append(entropy_ratio(found[name][free], self._rendered[name][free]))
        return 100 * float(np.mean([ratio for ratio in ratios if ratio is not None]))


def table(rows: Sequence[Row]) -> str:
    """Markdown, a row an arm."""
    places = len(rows[0].right)
    shown = sorted({1, min(4, places), places})
    heads = ["arm", "steps", *(f"right, image {place}" for place in shown), "slope", "freedom", "near-copies"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        right = [f"{row.right[place - 1]:.1f}" for place in shown]
        cells = [row.arm, str(row.steps), *right, f"{row.slope:+.2f}", f"{row.freedom:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{np.mean(row.near_copies):.1f}"]) + " |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of every arm's `m2m train`")
    parser.add_argument("--trunk", default="runs/self", help="run, or checkpoint, that every arm starts from")
    parser.add_argument("--config", default="configs/tiny/self.yaml", help="its settings")
    parser.add_argument("--arms", default=",".join(ARMS), help="names, with commas between them")
    parser.add_argument("--steps", type=int, default=400, help="steps of the baseline: the budget")
    parser.add_argument("--sets", type=int, default=60, help="held-out sets")
    parser.add_argument("--images", type=int, default=12, help="images made of each")
    parser.add_argument("--denoising", type=int, default=15, help="denoising steps of an image")
    parser.add_argument("--batch", type=int, default=20, help="sets of one call; of no influence on the images")
    parser.add_argument("--seed", type=int, default=0, help="of the held-out sets and the noise")
    parser.add_argument("--out", default="out/objective_ablation", help="folder of runs and results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge every arm; print and write the table."""
    options = parse(arguments)
    judge = Judge(options)
    rows = []
    for name in options.arms.split(","):
        model, steps = train_arm(name, ARMS[name], options)
        rows.append(judge.row(name, steps, model))
        print(table(rows), file=sys.stderr, flush=True)
    plain: dict[str, Any] = {"options": vars(options), "rows": [asdict(row) for row in rows]}
    write_json(Path(options.out) / "ablation.json", plain)
    with atomic_write(Path(options.out) / "ablation.md") as path:
        path.write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
