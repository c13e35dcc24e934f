"""Stable Diffusion 2.1's full size really trains: `m2m init` on a random base, then the trainer itself, on one batch.

    python benchmarks/sd21_training.py --variant self               # CPU, bfloat16, 32x32 latents, three images a set
    python benchmarks/sd21_training.py --variant dino --device cuda --sets 8 --images 5 --latent 64
    python benchmarks/sd21_training.py --variant self --size tiny   # the same path in seconds

Base and data are random: nothing is downloaded, and what is learned is only this batch. Each step gets the same sets
with the same noise, so that the losses of steps can be compared; they are those before each step. Operations are the
model's, forward and backward, without what checkpointing computes again. Accepted: the loss falls with every step, and
the process, with all of the above, never holds more than 20 GB (CPU: resident memory; CUDA: torch's own).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from m2m.checkpoint import write_json
from m2m.cli.main import main as m2m
from m2m.cli.train_parts import build_pipeline
from m2m.config import config_dict
from m2m.data.reading.image_set import ImageSet
from m2m.data.reading.order import Cursor, OrderConfig, SetOrder
from m2m.data.reading.sets import SetData
from m2m.diffusion.objective import ObjectiveConfig
from m2m.model.sizes import DINOV2_GIANT, SD21_UNET
from m2m.model.unet import M2MModel
from m2m.pipeline import M2MPipeline
from m2m.training.image_sets import ImageSetTask, SetBatch, TrainConfig
from m2m.training.loop import train
from m2m.training.parallel import Processes
from m2m.training.task import Share
from m2m.training.trainable import TRAINABLE, set_trainable
from m2m.training.watching import Progress, Work

ACCEPTED_GB = 20.0
SEED = 0
# Small enough for a test; the U-Net's group norms want multiples of 32 channels.
TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 16,
    "use_linear_projection": True,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


@dataclass(frozen=True)
class Size:
    """The U-Net, the side of its latents, and (tokens, width) of an image's features."""

    unet: dict[str, Any]
    latent: int
    tokens: tuple[int, int]


SIZES = {"full": Size(SD21_UNET, 32, DINOV2_GIANT), "tiny": Size(TINY_UNET, 8, (5, 24))}


class RandomSets(SetData):
    """Encoded sets of normal noise, functions of the set's number: latents [N, 4, h, w] and features [N, S, D]."""

    def __init__(self, sets: int, images: int, side: int, tokens: tuple[int, int]) -> None:
        self._sets = sets
        self._shapes = {"latents": (images, 4, side, side), "features": (images, *tokens)}

    @property
    def settings(self) -> list[dict[str, Any]]:
        return [{"data": "noise"}]

    def __len__(self) -> int:
        return self._sets

    def visit(self, index: int, epoch: int) -> ImageSet:
        generator = np.random.default_rng((SEED, index))
        arrays = {name: generator.normal(size=shape).astype(np.float16) for name, shape in self._shapes.items()}
        return ImageSet(f"set {index}", "", tuple(range(self._shapes["latents"][0])), **arrays)

    def order(self, config: OrderConfig, start: Cursor | None = None) -> SetOrder:
        return SetOrder([len(self)], config, start, data="noise")


class OneBatch(ImageSetTask):
    """The task of `m2m train`, but each step gets the first one's sets, and with them its noise."""

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[SetBatch]:
        with closing(super().batches(0, {}, share)) as read:  # type: ignore[type-var]  # a generator
            first = list(islice(read, share.accumulation))
        return cycle(first)


def save_random_base(folder: Path, size: Size) -> Path:
    """A folder as Stable Diffusion's, float32, with PyTorch's initial weights; the autoencoder is a small one."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

    torch.manual_seed(SEED)
    UNet2DConditionModel(**size.unet).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).save_pretrained(
        folder / "scheduler"
    )
    parts = {name: ["diffusers", kind] for name, kind in (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"))}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    return folder


def save_random_encoder(folder: Path, size: Size) -> Path:
    """A DINOv2 of one layer: as wide as the real one, for the width alone shapes M2M-DINO."""
    from transformers import Dinov2Config, Dinov2Model

    width = size.tokens[1]
    torch.manual_seed(SEED)
    Dinov2Model(Dinov2Config(hidden_size=width, num_hidden_layers=1, num_attention_heads=width // 12)).save_pretrained(
        folder
    )
    return folder


def init(folder: Path, options: argparse.Namespace, size: Size) -> Path:
    """`m2m init`, as a user calls it, on a random base."""
    out = folder / "model"
    command = ["init", "--variant", options.variant, "--base", save_random_base(folder / "base", size), "--out", out]
    if options.variant == "dino":
        command += ["--encoder", save_random_encoder(folder / "dinov2", size)]
    if code := m2m([str(word) for word in [*command, "--size", 8 * (options.latent or size.latent)]]):
        raise SystemExit(code)
    return out


def settings(folder: Path, model: Path, options: argparse.Namespace) -> TrainConfig:
    """Those of configs/sd21/*-24gb.yaml where they matter here."""
    return TrainConfig(
        data="noise",
        base=str(model),
        variant=options.variant,
        out=str(folder / "run"),
        trainable=options.trainable,
        precision=options.dtype,
        frozen_precision="float32" if options.dtype == "float32" else "bfloat16",
        gradient_checkpointing=not options.no_checkpointing,
        batch_sets=options.sets,
        images_per_set=options.images,
        objective=ObjectiveConfig(context_dropout=0.0),  # the whole context: all that is there has to learn
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup_steps=0,
        beta2=0.999,
        log_every=1,
        checkpoint_every=options.steps,
        workers=0,
        tracker="none",
        seed=SEED,
        threads=options.threads,
        device=options.device,
    )


class Steps:
    """The trainer's report callback: prints a row of markdown for each step, and keeps its numbers.

    Seconds by the wall's clock, and by that of this process's processors, which other processes disturb less.
    """

    def __init__(self, label: str) -> None:
        self.numbers: list[dict[str, float]] = []
        self._clock = time.process_time()
        print(f"| {label}, step | loss before it | seconds | TFLOP/s | processor seconds | peak memory, GB |")
        print("|---|---|---|---|---|---|", flush=True)

    def __call__(self, progress: Progress) -> None:
        now = time.process_time()
        numbers = {
            "loss": progress.loss,
            "seconds": 1 / progress.steps_per_second,
            "tflops": progress.tflops,
            "processor_seconds": now - self._clock,
            "memory_gb": progress.memory_gb,
        }
        self._clock = now
        self.numbers.append(numbers)
        cells = zip(numbers.values(), (".6f", ".1f", ".3g", ".1f", ".2f"), strict=True)
        print(f"| {progress.step} | {' | '.join(format(*cell) for cell in cells)} |", flush=True)


def train_on_one_batch(config: TrainConfig, size: Size, options: argparse.Namespace) -> list[dict[str, float]]:
    """As `m2m train` does it; the numbers of every step."""
    data = RandomSets(config.batch_sets, config.images_per_set, options.latent or size.latent, size.tokens)
    with Processes(config) as processes:
        pipe = build_pipeline(config, data, processes.device)
        task = OneBatch(pipe.model, pipe.scheduler, data, config)
        set_trainable(pipe.model, config.trainable, config.lora_rank, config.frozen_precision, config.seed)
        work = Work(config.batch_sets, operations(pipe, config, size.tokens))
        steps = Steps(f"M2M-{'Self' if config.variant == 'self' else 'DINO'}")
        train(task, config, config_dict(config), processes, steps, work=work)
    return steps.numbers


def operations(pipe: M2MPipeline, config: TrainConfig, tokens: tuple[int, int]) -> float:
    """Of one step: forward and backward, counted on a model and a batch without memory."""
    with torch.device("meta"):
        model = M2MModel.from_config(pipe.model.config).train()
        side = model.unet.config.sample_size
        latents = torch.empty(config.batch_sets, config.images_per_set, 4, side, side)
        context = latents.new_empty(*latents.shape[:2], *tokens) if config.variant == "dino" else latents
        timesteps = torch.zeros(latents.shape[:2], dtype=torch.long)
    set_trainable(model, config.trainable, config.lora_rank, frozen_precision="float32")
    keep = torch.ones(len(latents), dtype=torch.bool, device="cpu")
    # The plain attention: the fused kernels are not all among those that the counter knows.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(latents, context, timesteps, keep).sum().backward()
    return counter.get_total_flops()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in a temporary folder."""
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        model = init(Path(folder), options, size)
        steps = train_on_one_batch(settings(Path(folder), model, options), size, options)
    return {"steps": steps, "accepted": accepted([step["loss"] for step in steps], steps[-1]["memory_gb"])}


def accepted(losses: Sequence[float], memory_gb: float) -> bool:
    """Whether every step has made the loss smaller, within the memory."""
    return all(later < earlier for earlier, later in pairwise(losses)) and memory_gb < ACCEPTED_GB


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="self", choices=("self", "dino"))
    parser.add_argument("--size", default="full", choices=tuple(SIZES), help="of the U-Net")
    parser.add_argument("--latent", type=int, default=0, help="side of the latents; 0: 32 (full), 8 (tiny)")
    parser.add_argument("--sets", type=int, default=1, help="sets a step")
    parser.add_argument("--images", type=int, default=3, help="images a set")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--trainable", default="image_set_attention", choices=TRAINABLE)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="precision of the run")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    parser.add_argument("--folder", help="where the temporary folder is made; the full size takes 15 GB")
    parser.add_argument("--out", default="out/sd21_training.json", help="file of the results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and write."""
    results = measure(options)
    print("accepted" if results["accepted"] else "NOT accepted")
    place = {"platform": platform.platform(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_json(options.out, {"options": vars(options), "machine": place, "results": results})
    return results


if __name__ == "__main__":
    raise SystemExit(0 if run(parse())["accepted"] else 1)
