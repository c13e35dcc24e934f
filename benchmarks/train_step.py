"""What a training step costs: M2M-Self and M2M-DINO against diffusers' own text-to-image step, in turns.

    python benchmarks/train_step.py                                          # the tiny size, CPU
    # eight minutes of one core
    python benchmarks/train_step.py --size sd21 --trainable image_set_attention --checkpointing --sets 1 --rounds 2
    python benchmarks/train_step.py --size sd21 --latent 64 --sets 8 --images 5 --device cuda --peak-tflops 989

All three learn from as many noisy images, with the same optimiser, precision and average, from ready latents and
tokens. Where ours train image-set attention alone (SD 2.1: 50 million weights, M2M-DINO 63), theirs trains the text's.
Theirs is the loop of diffusers' examples/text_to_image/train_text_to_image.py, ours the trainer's `Optimisation` and
objective. M2M does more for an image: image-set attention, and in M2M-Self the clean pass. So images a second are also
compared with the floating point operations counted in: the ratio of TFLOP/s. Accepted: at least 0.9.

Operations are those of the model, forward and backward, counted once on tensors without memory; what checkpointing
computes again does not count. Memory is the peak of each step with no other model around (CPU: of the process, Linux).
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from m2m.checkpoint import write_json
from m2m.diffusion.objective import ObjectiveConfig, draw, training_loss
from m2m.evaluation.efficiency.pairing import Ratio, Times, ratio, take_turns
from m2m.model.sizes import DINOV2_GIANT, SD21_TEXT, SD21_UNET
from m2m.model.unet import M2MModel
from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.preparing import prepare
from m2m.training.step import Optimisation
from m2m.training.task import StepBatch
from m2m.training.trainable import set_trainable
from m2m.training.watching import memory_gb

TEXT, SELF, DINO = "diffusers, text", "M2M-Self", "M2M-DINO"
VARIANTS = {SELF: "self", DINO: "dino"}
ACCEPTED = 0.9
TINY_CONFIG = Path(__file__).parents[1] / "configs" / "tiny" / "self.yaml"
TRAINABLE = ("all", "image_set_attention")

Step = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """Of the U-Net, its latents (C, h, w), and (tokens, width) of a caption and of an image's features."""

    unet: dict[str, Any]
    latents: tuple[int, int, int]
    text: tuple[int, int]
    vision: tuple[int, int]


def sizes(options: argparse.Namespace) -> Sizes:
    """The sizes by name; `--latent` decides the side."""
    if options.size == "sd21":
        side = options.latent or 32
        return Sizes(SD21_UNET, (4, side, side), SD21_TEXT, DINOV2_GIANT)
    unet = yaml.safe_load(TINY_CONFIG.read_text())["unet"]
    side = options.latent or unet["sample_size"]
    # A caption as wide as the deepest level; the tokens of EfficientNet-Lite0.
    return Sizes(unet, (unet["in_channels"], side, side), (77, unet["block_out_channels"][-1]), (49, 1280))


class TextToImage:
    """diffusers' example: one noisy image a caption, its parameters those of a U-Net with text attention."""

    def __init__(self, options: argparse.Namespace, size: Sizes) -> None:
        self._options, self._size = options, size
        images = options.sets * options.images
        self._latents = torch.randn(images, *size.latents, device=options.device)
        self._text = torch.randn(images, *size.text, device=options.device)
        self._scheduler = DDPMScheduler()

    def module(self) -> nn.Module:
        """A U-Net with random weights. Where ours trains image-set attention alone, this trains its text attention."""
        unet = UNet2DConditionModel(**{**self._size.unet, "cross_attention_dim": self._size.text[1]})
        if self._options.trainable == "all":
            return unet
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(".attn2." in name)
            if not parameter.requires_grad and parameter.ndim > 1:
                parameter.data = parameter.data.to(getattr(torch, frozen_precision(self._options)))
        return unet

    def draws(self, number: int) -> tuple[Tensor, Tensor]:
        """Noise and timesteps of a step, drawn on the device, as the example does."""
        horizon = self._scheduler.config.num_train_timesteps
        timesteps = torch.randint(0, horizon, (len(self._latents),), device=self._latents.device)
        return torch.randn_like(self._latents), timesteps

    def loss(self, module: nn.Module, draws: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of epsilon."""
        noise, timesteps = draws
        noisy = self._scheduler.add_noise(self._latents, noise, timesteps)  # [B*N, C, h, w]
        predicted = module(noisy, timesteps, self._text, return_dict=False)[0]  # [B*N, C, h, w]
        return F.mse_loss(predicted.float(), noise.float(), reduction="mean")

    def training(self, module: nn.Module, config: LoopConfig, processes: Processes) -> Step:
        """The body of the example's loop, with our fused AdamW and the average over the trained parameters."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, config.learning_rate, (config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
        )
        average = EMAModel(trained, decay=config.ema_decay, foreach=True)
        scaler = torch.amp.GradScaler(processes.device.type, enabled=config.precision == "float16")

        def step() -> float:
            with processes.autocast():
                loss = self.loss(module, self.draws(0))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, config.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            average.step(trained)
            return loss.item()

        return step


class ImageSets:
    """Our trainer: every image of a set, from the clean images before it."""

    def __init__(self, options: argparse.Namespace, size: Sizes, variant: str) -> None:
        self._options, self._size, self._variant = options, size, variant
        self._latents = torch.randn(options.sets, options.images, *size.latents, device=options.device)
        tokens = torch.randn(options.sets, options.images, *size.vision, device=options.device)
        self._context = tokens if variant == "dino" else self._latents
        self._scheduler = DDPMScheduler()
        # No set loses its context: every step is a whole one, and the operations that are counted are those done.
        self._objective = ObjectiveConfig(context_dropout=0.0)

    def module(self) -> nn.Module:
        """An M2M model with random weights."""
        width = self._size.vision[1] if self._variant == "dino" else None
        model = M2MModel(unet_config=self._size.unet, variant=self._variant, context_dim=width)
        set_trainable(model, self._options.trainable, frozen_precision=frozen_precision(self._options))
        return model

    def draws(self, number: int) -> Any:
        """The draws of a step, on the CPU, as the trainer makes them."""
        generators = [torch.Generator().manual_seed(number * len(self._latents) + i) for i in range(len(self._latents))]
        horizon = self._scheduler.config.num_train_timesteps
        return draw(self._objective, horizon, self._latents.shape[1:], generators)

    def loss(self, module: nn.Module, draws: Any) -> Tensor:
        """Equation 5."""
        return training_loss(module, self._scheduler, self._latents, self._context, self._objective, draws)[0]

    def training(self, module: nn.Module, config: LoopConfig, processes: Processes) -> Step:
        """The trainer's step."""
        optimisation = Optimisation(module, config, config.steps, processes)
        numbers = count()

        def loss(wrapped: nn.Module, batch: Any, number: int) -> tuple[Tensor, dict[str, float]]:
            return self.loss(wrapped, self.draws(number)), {}

        def step() -> float:
            number = next(numbers)
            result = optimisation.step(number, iter([StepBatch(number)]), loss, 1, interrupted=lambda: False)
            assert result is not None and result.finite
            return result.loss.item()

        return step


Alternative = TextToImage | ImageSets


def new_alternative(options: argparse.Namespace, name: str) -> Alternative:
    """One of the three, with its latents and tokens."""
    torch.manual_seed(options.seed)
    if name == TEXT:
        return TextToImage(options, sizes(options))
    return ImageSets(options, sizes(options), VARIANTS[name])


def frozen_precision(options: argparse.Namespace) -> str:
    """Frozen matrices lie in half precision, where the step computes in it."""
    return "float32" if options.dtype == "float32" else "bfloat16"


def flops(options: argparse.Namespace, name: str) -> int:
    """Floating point operations of one step of an alternative, forward and backward (no optimiser)."""
    # On the CPU, whatever the device, and in one type: neither changes what there is to do.
    alternative = new_alternative(argparse.Namespace(**{**vars(options), "device": "cpu", "dtype": "float32"}), name)
    draws = alternative.draws(0)
    # The plain attention: the fused kernels of CPUs are not among those that the counter knows.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        module = alternative.module().train()
        with FlopCounterMode(display=False) as counter:
            alternative.loss(module, draws).backward()
    return counter.get_total_flops()


def begin(alternative: Alternative, config: LoopConfig, processes: Processes) -> Step:
    """A model on the device, and the step that trains it."""
    torch.manual_seed(config.seed)
    with processes.device:
        module = alternative.module().train()
    prepare(module, config)
    return alternative.training(module, config, processes)


def peak_memory_gb(alternative: Alternative, config: LoopConfig, processes: Processes) -> float:
    """The most that the first two steps take with no other model around, in 10^9 bytes."""
    gc.collect()
    step = begin(alternative, config, processes)
    reset_peak(processes.device)
    for _ in range(2):  # the optimiser's state comes with the first
        step()
    found = memory_gb(processes.device)
    print(f"{found:.2f} GB alone", file=sys.stderr, flush=True)
    return found


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far; where the system cannot, it stays that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All three steps: operations, memory, times, ratios."""
    names = (TEXT, *VARIANTS)
    operations = {name: flops(options, name) for name in names}
    alternatives = {name: new_alternative(options, name) for name in names}
    config = LoopConfig(
        precision=options.dtype,
        device=options.device,
        gradient_checkpointing=options.checkpointing,
        compile=options.compile,
        seed=options.seed,
    )
    with Processes(config) as processes:
        memory = {name: peak_memory_gb(own, config, processes) for name, own in alternatives.items()}
        gc.collect()  # the model of the last goes before all are made
        steps = {name: begin(own, config, processes) for name, own in alternatives.items()}
        wait = torch.cuda.synchronize if processes.device.type == "cuda" else lambda: None
        times = take_turns(steps, options.rounds, finish=wait)
    return {name: result(options, times, operations, name) | {"memory_gb": memory[name]} for name in names}


def result(
    options: argparse.Namespace, times: dict[str, Times], operations: dict[str, int], name: str
) -> dict[str, Any]:
    """The numbers of one alternative. speed: its images a second over diffusers'; work: its TFLOP/s over theirs."""
    seconds = statistics.median(times[name].wall)
    rate = operations[name] / seconds / 1e12
    found: dict[str, Any] = {
        "seconds": asdict(times[name]),
        "images_per_second": options.sets * options.images / seconds,
        "sets_per_second": options.sets / seconds,
        "tflop": operations[name] / 1e12,
        "tflops": rate,
        "share_of_peak": rate / options.peak_tflops if options.peak_tflops else None,
    }
    if name == TEXT:
        return found
    extra = operations[name] / operations[TEXT]
    for clock in ("wall", "processor"):
        speed = ratio(getattr(times[TEXT], clock), getattr(times[name], clock))
        work = Ratio(*(extra * value for value in asdict(speed).values()))
        found[f"ratio_{clock}"] = {"speed": asdict(speed), "work": asdict(work)}
    return found | {"operations_ratio": extra, "accepted": found["ratio_wall"]["work"]["median"] >= ACCEPTED}


def table(results: dict[str, Any]) -> str:
    """Markdown: one row an alternative. In turn: by the clock, with the operations counted in, by the processor's."""
    lines = [
        "| | step, s | images/s | sets/s | TFLOP a step | TFLOP/s | of peak | memory, GB | images/s, ratio "
        "| TFLOP/s, ratio | TFLOP/s, ratio, processor | accepted |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, own in results.items():
        cells = [
            f"{statistics.median(own['seconds']['wall']):.3f}",
            f"{own['images_per_second']:.2f}",
            f"{own['sets_per_second']:.2f}",
            f"{own['tflop']:.3g}",
            f"{own['tflops']:.3g}",
            f"{own['share_of_peak']:.1%}" if own["share_of_peak"] else "",
            f"{own['memory_gb']:.2f}",
            *(ratio_cells(own) if name != TEXT else ("1", "1", "1", "")),
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def ratio_cells(own: dict[str, Any]) -> tuple[str, ...]:
    """Of an M2M model, over diffusers'."""
    wall, processor = own["ratio_wall"], own["ratio_processor"]
    return (*(str(Ratio(**found)) for found in (wall["speed"], wall["work"], processor["work"])), str(ACCEPTED))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny", choices=("tiny", "sd21"), help="of the U-Net")
    parser.add_argument("--latent", type=int, default=0, help="side of the latents; 0: 32 (sd21), 8 (tiny)")
    parser.add_argument("--sets", type=int, default=2, help="sets a step; diffusers gets sets x images")
    parser.add_argument("--images", type=int, default=3, help="images a set")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"), help="of the step")
    parser.add_argument("--trainable", default="all", choices=TRAINABLE, help="all, or the replaced attention alone")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again in backward")
    parser.add_argument("--compile", action="store_true", help="blocks of the U-Nets, by torch.compile")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the device, for the share of it; 0: unknown")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    parser.add_argument("--seed", type=int, default=0, help="of weights, latents and tokens")
    parser.add_argument("--out", default="out/train_step.json", help="file of the results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and write."""
    if options.threads:
        torch.set_num_threads(options.threads)
    results = measure(options)
    print(table(results), flush=True)
    place = {"platform": platform.platform(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_json(options.out, {"options": vars(options), "machine": place, "results": results})
    return results


if __name__ == "__main__":
    run(parse(sys.argv[1:]))
