"""How near `m2m train --dry-run` comes: the memory that it plans against what a run really takes, on a CPU.

    python benchmarks/plan_accuracy.py                       # the tiny models of configs/tiny, a quarter of an hour
    python benchmarks/plan_accuracy.py --sizes middle        # a U-Net of 52 million weights at 32x32 latents
    python benchmarks/plan_accuracy.py --sizes full          # Stable Diffusion 2.1's size, image-set attention only

Each case is planned by `m2m train --dry-run` and then run by `m2m train`, each in a process of its own, for a few steps
and their checkpoint. Taken is the peak of resident memory of the whole process (Linux). Accepted: within 15%.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from m2m.checkpoint import write_json
from m2m.cli.main import main as m2m
from m2m.model_folder import find_model

ACCEPTED = 0.15
CONFIGS = Path(__file__).parents[1] / "configs" / "tiny"
STEPS = 8
MEASURE = "measure"  # first argument of the processes that this file starts of itself
LEVELS = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
# As Stable Diffusion 2.1's, but narrower.
MIDDLE = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "attention_head_dim": [4, 8, 8, 8],
    "use_linear_projection": True,
}
HALF = "precision=bfloat16"
CHECKPOINTING = "gradient_checkpointing=true"
ATTENTION = "trainable=image_set_attention"
LORA = "trainable=lora"
SETS = "batch_sets"

# Size -> case -> what it changes of the size's settings.
CASES: dict[str, list[list[str]]] = {
    "tiny-self": [
        [],
        [f"{SETS}=24"],
        [f"{SETS}=24", "micro_batch_sets=6"],
        [f"{SETS}=24", HALF],
        [f"{SETS}=24", CHECKPOINTING],
        [f"{SETS}=24", HALF, ATTENTION],
        [f"{SETS}=24", HALF, LORA],
    ],
    "tiny-dino": [[], [f"{SETS}=24"], [f"{SETS}=24", HALF, CHECKPOINTING]],
    "middle": [
        [f"{SETS}=1"],
        [f"{SETS}=2"],
        [f"{SETS}=4", HALF],
        [f"{SETS}=2", CHECKPOINTING],
        [f"{SETS}=2", HALF, CHECKPOINTING, ATTENTION],
    ],
    "full": [[f"{SETS}=1", HALF, CHECKPOINTING, ATTENTION]],
}
GROUPS = {"tiny": ("tiny-self", "tiny-dino"), "middle": ("middle",), "full": ("full",)}


def settings(size: str, folder: Path) -> dict[str, Any]:
    """The YAML settings of a size."""
    common = {"steps": STEPS, "warmup_steps": 0, "validation": "", "sample_every": 0, "threads": 1, "workers": 0}
    if size.startswith("tiny"):
        name = size.removeprefix("tiny-")
        autoencoder = str(find_model(size).part("vae"))
        return {**yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()), **common, "autoencoder": autoencoder}
    from m2m.model.sizes import SD21_UNET

    return {
        **common,
        "variant": "self",
        "unet": MIDDLE if size == "middle" else SD21_UNET,
        "autoencoder": str(folder / "autoencoder"),
        "data": str(folder / "latents"),
        "images_per_set": 3,
        "steps": STEPS // 2,
    }


def make_latents(folder: Path) -> None:
    """Sets of 32x32 latents, as a user makes them: the world's pictures through a small autoencoder."""
    import torch

    from m2m.model.autoencoder import TinyAutoencoder

    torch.manual_seed(0)
    autoencoder = TinyAutoencoder(latent_channels=4, block_out_channels=(3, 12, 16, 16), norm_num_groups=4)
    autoencoder.save_pretrained(folder / "autoencoder")
    build = ["--generator", "world:mini", "--images-per-set", "3", "--size", "256"]
    commands: list[list[object]] = [
        ["data", "captions", "world:mini:train:16", "--test", "0", "--out", folder / "captions"],
        ["data", "build", "--captions", folder / "captions", *build, "--out", folder / "pictures"],
        ["data", "encode", folder / "pictures", "--autoencoder", folder / "autoencoder", "--out", folder / "latents"],
    ]
    for command in commands:
        with redirect_stdout(sys.stderr):
            if code := m2m([str(word) for word in command]):
                raise SystemExit(code)


def measured(arguments: Sequence[str]) -> float:
    """Peak GB of a process that is `m2m ARGUMENTS`; in that process."""
    from m2m.training.watching import memory_gb

    if code := m2m(list(arguments)):
        raise SystemExit(code)
    import torch

    return memory_gb(torch.device("cpu"))


def taken(arguments: Sequence[str]) -> float:
    """The same, from outside."""
    command = [sys.executable, __file__, MEASURE, *arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(printed.splitlines()[-1])["memory_gb"])


def planned(arguments: Sequence[str]) -> dict[str, float]:
    """GB by part, as the dry run prints them."""
    command = [sys.executable, "-m", "m2m", *arguments, "--dry-run", "--memory", "1000"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return parts(printed)


def parts(printed: str) -> dict[str, float]:
    """GB of each part of the memory in the output of a dry run, and those of all of them, `together`."""
    return {name: float(size) for name, size in re.findall(r"^#   (\S.*?) {2,}([\d.]+)", printed, re.MULTILINE)}


def cases(sizes: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Plan and run every case of some sizes."""
    for size in sizes:
        config = folder / f"{size}.yaml"
        config.write_text(yaml.safe_dump(settings(size, folder)))
        for number, changes in enumerate(CASES[size]):
            out = f"out={folder / f'{size}-{number}'}"
            command = ["train", "--config", str(config), out, *changes]
            plan = planned(command)
            yield {"size": size, "changes": changes, "planned": plan, "taken": taken(command)}


def row(case: dict[str, Any]) -> str:
    """Of the table."""
    plan = case["planned"]
    total = plan["together"]
    error = total / case["taken"] - 1
    return (
        f"| {case['size']} | {' '.join(case['changes'])} | {plan['activations']:.2f} | {total:.2f} "
        f"| {case['taken']:.2f} | {error:+.1%} |"
    )


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cases: printed as they come, and written."""
    sizes = [size for name in options.sizes for size in GROUPS[name]]
    print(
        "| U-Net | changes | activations, GB | planned, GB | taken, GB | error |\n|---|---|---|---|---|---|", flush=True
    )
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if {"middle", "full"} & set(sizes):
            make_latents(folder)
        for case in cases(sizes, folder):
            print(row(case), flush=True)
            found.append(case)
    write_json(options.out, found)
    return found


def accepted(found: Sequence[dict[str, Any]]) -> bool:
    """Whether every plan came near."""
    return all(abs(case["planned"]["together"] / case["taken"] - 1) <= ACCEPTED for case in found)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny"], choices=tuple(GROUPS))
    parser.add_argument("--folder", help="where the temporary folder is made; the full size takes 3 GB")
    parser.add_argument("--out", default="out/plan_accuracy.json", help="file of the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == [MEASURE]:
        print(json.dumps({"memory_gb": measured(sys.argv[2:])}))
    else:
        raise SystemExit(0 if accepted(run(parse())) else 1)
