"""The context cache against the paper's way, which runs every context image again at every step: the same images.

    python benchmarks/context_cache.py                            # the shipped tiny-self
    python benchmarks/context_cache.py --model DIR
    python benchmarks/context_cache.py --random                   # weights of configs/tiny/self.yaml, untrained

One pair a round, same weights, same seeds, the whole call with encoding and decoding, in float32. Accepted: pixels in
[-1, 1] differ by at most 1e-4, and the cache is at least 3 times as fast. Printed, and written to --out as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import DDIMScheduler
from PIL import Image
from torch import Tensor, nn

from m2m.checkpoint import write_json
from m2m.data.worlds import World
from m2m.evaluation.efficiency.pairing import ratio, take_turns
from m2m.loading import load_pipeline
from m2m.model.autoencoder import TinyAutoencoder
from m2m.model.context_window import ContextWindow
from m2m.model.unet import M2MModel
from m2m.model_folder import find_model
from m2m.pipeline import M2MPipeline
from m2m.types import UserError

CONFIGS = Path(__file__).parents[1] / "configs" / "tiny"
LARGEST_DIFFERENCE = 1e-4
LEAST_SPEEDUP = 3.0


def random_pipeline(seed: int) -> M2MPipeline:
    """The tiny M2M-Self with random weights, those of image-set attention too: its context is not ignored."""
    torch.manual_seed(seed)
    config = yaml.safe_load((CONFIGS / "self.yaml").read_text())
    model = M2MModel(unet_config=config["unet"], variant="self")
    for layer in model.image_set_attentions():
        nn.init.normal_(layer.to_out[0].weight, std=0.05)
    autoencoder = TinyAutoencoder(**yaml.safe_load((CONFIGS / "autoencoder.yaml").read_text()).get("model", {}))
    return M2MPipeline(model.eval(), autoencoder.eval(), DDIMScheduler(**config["scheduler"]))


def given_pictures(count: int, sets: int, seed: int, size: int) -> list[list[Image.Image]]:
    """For each set, renderings of one caption of the tiny world."""
    world = World.load("mini")
    captions = world.captions("test", sets, seed)
    return [[Image.fromarray(world.render(c, seed + i, size)) for i in range(count)] for c in captions]


def sample(pipe: M2MPipeline, given: list[list[Image.Image]], options: argparse.Namespace, reuse: bool) -> Tensor:
    """Pixels [B, N, 3, H, W] in [-1, 1]."""
    images = pipe(
        given,
        num_images=options.images,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        window="all",
        seed=options.seed,
        output_type="pt",
        reuse_context=reuse,
    ).images
    return torch.stack(images).float() * 2 - 1


def cache_bytes(pipe: M2MPipeline, picture: Image.Image) -> int:
    """Memory of one context image's keys and values."""
    if pipe.model.config.variant != "self":
        raise UserError("this compares M2M-Self alone: M2M-DINO runs no context image through its U-Net")
    context = ContextWindow(pipe.model, sets=1, size=1)
    with torch.no_grad():
        context.append(pipe.encode([picture]).to(pipe.device, pipe.model.dtype), [0], given=True)
    return context.bytes_per_image


def compare(pipe: M2MPipeline, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turns."""
    pipe.set_progress_bar_config(disable=True)
    given = given_pictures(options.given, options.sets, options.seed, pipe.image_size)
    bytes_per_image = cache_bytes(pipe, given[0][0])
    made: dict[str, Tensor] = {}

    def way(name: str, reuse: bool) -> Any:
        return lambda: made.__setitem__(name, sample(pipe, given, options, reuse))

    times = take_turns({"cached": way("cached", True), "recomputed": way("recomputed", False)}, options.rounds)
    without = sample(pipe, [pictures[:1] for pictures in given], options, True)
    return {
        "seconds": {name: asdict(own) for name, own in times.items()},
        "speedup": asdict(ratio(times["recomputed"].wall, times["cached"].wall)),
        "speedup_processor": asdict(ratio(times["recomputed"].processor, times["cached"].processor)),
        "largest_difference": float((made["cached"] - made["recomputed"]).abs().max()),
        "difference_with_one_given": float((made["cached"] - without).abs().max()),
        "cache_bytes_per_image": bytes_per_image,
    }


def table(results: dict[str, Any], options: argparse.Namespace) -> str:
    """Markdown; the last row shows that the images do depend on the context."""
    wall = {name: statistics.median(own["wall"]) for name, own in results["seconds"].items()}
    speedup = results["speedup"]
    size = f"{options.images} images from {options.given}" + (f", {options.sets} sets" if options.sets > 1 else "")
    rows = [
        (f"{size}, {options.steps} steps, cached", f"{wall['cached']:.2f} s", ""),
        ("the same, every context image run again at every step", f"{wall['recomputed']:.2f} s", ""),
        (
            "times as fast, median of pairs (range)",
            f"{speedup['median']:.2f} ({speedup['lowest']:.2f} to {speedup['highest']:.2f})",
            f">= {LEAST_SPEEDUP:g}",
        ),
        ("the same in processor time", f"{results['speedup_processor']['median']:.2f}", ""),
        (
            "largest difference of a pixel in [-1, 1]",
            f"{results['largest_difference']:.1e}",
            f"<= {LARGEST_DIFFERENCE:g}",
        ),
        ("cache of a context image", f"{results['cache_bytes_per_image'] / 1024:.0f} KiB", ""),
        ("difference if only one image is given", f"{results['difference_with_one_given']:.1e}", "> 0"),
    ]
    return "\n".join(["| | measured | accepted |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-self", help="folder, hub id or shipped name of an M2M-Self")
    parser.add_argument("--random", action="store_true", help="random weights at the size of configs/tiny/self.yaml")
    parser.add_argument("--given", type=int, default=4, help="given images")
    parser.add_argument("--sets", type=int, default=1, help="sets in one call")
    parser.add_argument("--images", type=int, default=4, help="images to make")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of an image")
    parser.add_argument("--guidance", type=float, default=None, help="guidance scale; default: the model's own")
    parser.add_argument("--rounds", type=int, default=3, help="counted pairs; one more warms up")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    parser.add_argument("--seed", type=int, default=0, help="of the given images, the noise and --random's weights")
    parser.add_argument("--out", default="out/context_cache.json", help="file of the results")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write; exit code 1 where a limit is missed."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.random:
        pipe = random_pipeline(options.seed).to(options.device)
    else:
        pipe = load_pipeline(find_model(options.model), options.device)
    results = compare(pipe, options)
    print(table(results, options))
    write_json(options.out, {"options": vars(options), "threads": torch.get_num_threads(), "results": results})
    kept = results["largest_difference"] <= LARGEST_DIFFERENCE and results["speedup"]["median"] >= LEAST_SPEEDUP
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"context_cache: {error}")
