"""What image-set attention costs at full size: one guided step of Stable Diffusion 2.1 with text against M2M-Self and
M2M-DINO with a cached context, random weights, in turns.

    python benchmarks/sd21_step.py                                # 32x32 latents, bfloat16, CPU
    python benchmarks/sd21_step.py --latent 64 --device cuda --rounds 50

A guided step is both branches of equation 6 in one U-Net call, the guidance and the DDIM step. The three U-Nets share
every weight but their attn2, so they fit into the memory of one. Accepted: at most 1.15 (Self) and 1.05 (DINO) times
the step with text. The numbers are printed and written to --out as JSON.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from einops import repeat
from torch import Tensor

from m2m.checkpoint import write_json
from m2m.diffusion.guidance import guide
from m2m.evaluation.efficiency.pairing import Ratio, Times, ratio, take_turns
from m2m.evaluation.efficiency.random_networks import random_text_unet, with_image_set_attention
from m2m.model.context import ContextReader
from m2m.model.context_window import ContextWindow
from m2m.model.convert import count_parameters
from m2m.model.sizes import DINOV2_GIANT, SD21_TEXT, SD21_UNET
from m2m.model.unet import M2MModel

ACCEPTED = {"M2M-Self": 1.15, "M2M-DINO": 1.05}
GUIDANCE = 7.5
TIMESTEP = 501

Step = Callable[[], Tensor]


def text_step(base: UNet2DConditionModel, latents: Tensor) -> Step:
    """One guided step of the base: conditional and unconditional text."""
    text = torch.randn(2, *SD21_TEXT, device=base.device, dtype=base.dtype)
    scheduler, timestep = _scheduler(latents.device)

    def step() -> Tensor:
        noisy = repeat(latents, "b c h w -> (t b) c h w", t=2).to(base.dtype)  # [2, C, h, w]
        branches = base(noisy, timestep, encoder_hidden_states=text).sample  # [2, C, h, w]
        return scheduler.step(guide(branches[:1], branches[1:], GUIDANCE), timestep, latents).prev_sample

    return step


def image_step(model: M2MModel, context: ContextWindow, latents: Tensor) -> Step:
    """One guided step of an M2M model whose context is written already."""
    scheduler, timestep = _scheduler(latents.device)

    def step() -> Tensor:
        reader = ContextReader([context.conditional(), context.unconditional()])
        noisy = repeat(latents, "b c h w -> b t c h w", t=2).to(model.dtype)  # [1, 2, C, h, w]
        branches = model.denoise(noisy, timestep.expand(noisy.shape[:2]), reader)  # [1, 2, C, h, w]
        return scheduler.step(guide(branches[:, 0], branches[:, 1], GUIDANCE), timestep, latents).prev_sample

    return step


@torch.inference_mode()
def measure(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, Any]:
    """All three steps at one dtype."""
    torch.manual_seed(options.seed)
    latents = torch.randn(1, 4, options.latent, options.latent, device=options.device)
    base = random_text_unet(SD21_UNET, dtype, options.device)
    steps: dict[str, Step] = {"SD 2.1, text": text_step(base, latents)}
    models: dict[str, dict[str, Any]] = {}
    for label, variant in (("M2M-Self", "self"), ("M2M-DINO", "dino")):
        model = with_image_set_attention(base, variant, DINOV2_GIANT[1] if variant == "dino" else None)
        context = ContextWindow(model, sets=1, size=options.context)
        started = time.perf_counter()
        context.append(_features(options, variant, dtype), [0] * options.context, given=True)
        _finish(options.device)
        steps[label] = image_step(model, context, latents)
        models[label] = {
            "parameters": asdict(count_parameters(base, model)),
            "cache_bytes_per_image": context.bytes_per_image,
            "seconds_to_write_the_context_once": time.perf_counter() - started,
        }
    times = take_turns(steps, options.rounds, finish=lambda: _finish(options.device))
    return _results(times, models)


def _results(times: dict[str, Times], models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    text = times["SD 2.1, text"]
    results: dict[str, Any] = {"SD 2.1, text": {"seconds": asdict(text)}}
    for label, model in models.items():
        own = times[label]
        ratios = {clock: asdict(ratio(getattr(own, clock), getattr(text, clock))) for clock in ("wall", "processor")}
        results[label] = {"seconds": asdict(own), "ratio": ratios, "accepted": ACCEPTED[label], **model}
    return results


def table(dtype: str, results: dict[str, Any]) -> str:
    """Markdown: one row a model."""
    text = statistics.median(results["SD 2.1, text"]["seconds"]["wall"])
    base = next(iter(results[label] for label in ACCEPTED))["parameters"]
    lines = [
        f"| {dtype} | parameters | attn2 | step, s | ratio, wall | ratio, processor | accepted | cache an image |",
        "|---|---|---|---|---|---|---|---|",
        f"| SD 2.1, text | {base['base']:,} | {base['text_attention']:,} | {text:.2f} | 1 | 1 | | |",
    ]
    for label, limit in ACCEPTED.items():
        own = results[label]
        counts, wall, processor = own["parameters"], Ratio(**own["ratio"]["wall"]), Ratio(**own["ratio"]["processor"])
        lines.append(
            f"| {label} | {counts['total']:,} | {counts['image_set_attention']:,} "
            f"| {statistics.median(own['seconds']['wall']):.2f} | {wall} | {processor} | {limit} "
            f"| {own['cache_bytes_per_image'] / 2**20:.2f} MiB |"
        )
    return "\n".join(lines)


def _features(options: argparse.Namespace, variant: str, dtype: torch.dtype) -> Tensor:
    shape = (4, options.latent, options.latent) if variant == "self" else DINOV2_GIANT
    return torch.randn(options.context, *shape, device=options.device, dtype=dtype)


def _scheduler(device: torch.device) -> tuple[DDIMScheduler, Tensor]:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(50, device=device)
    return scheduler, torch.tensor(TIMESTEP, device=device)


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", type=int, default=32, help="side of the latents; 64 is 512 pixels")
    parser.add_argument("--context", type=int, default=4, help="context images")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32", "both"))
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    parser.add_argument("--seed", type=int, default=0, help="of weights, latents and tokens")
    parser.add_argument("--out", default="out/sd21_step.json", help="file of the results")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    measured = {}
    for name in ("float32", "bfloat16") if options.dtype == "both" else (options.dtype,):
        print(f"measuring {name}", file=sys.stderr, flush=True)
        measured[name] = measure(options, getattr(torch, name))
        print(table(name, measured[name]) + "\n", flush=True)
        gc.collect()  # the models of one type go before those of the next are made
    place = {"platform": platform.platform(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_json(options.out, {"options": vars(options), "machine": place, "results": measured})


if __name__ == "__main__":
    main()
