"""What a data set costs before it is made: GPU-hours, money, bytes, shards, days (section 4 of the paper).

The paper's own figures are the defaults: 12,237,187 captions, 25 images of each, 0.67 s an image on an A100, 32 TB as
JPEG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from m2m.data.reports.units import human_bytes, human_days
from m2m.types import UserError

PAPER_SETS = 12_237_187
PAPER_IMAGES = 25
PAPER_SECONDS = 0.67
PAPER_SIZE = 512
# 32 TB over 306 million pictures of 512 x 512: 104.6 kB each, which is what JPEG of quality 95 takes.
PAPER_JPEG_BYTES = 32e12 / (PAPER_SETS * PAPER_IMAGES)

# Bytes of a picture as a share of JPEG at quality 95, by quality: the mean of 11 photographs at 512 x 512, Pillow 13.
# A busy picture takes twice the mean, a clear sky half of it: `timing.measure` weighs what a generator really makes.
QUALITIES = (50, 60, 70, 75, 80, 85, 90, 95, 100)
SHARES = {
    "jpg": (0.27, 0.31, 0.37, 0.41, 0.46, 0.55, 0.69, 1.0, 2.03),
    "webp": (0.20, 0.22, 0.25, 0.27, 0.33, 0.41, 0.55, 0.80, 1.10),
}
PNG_SHARE = 4.1

TAR_BLOCK = 512
# KEY.json of a set: what does not depend on the number of images, and what each image adds (its seed).
JSON_BYTES, JSON_BYTES_PER_IMAGE = 900, 24
# Float16 of an image as the models read it: latents [4, size / 8, size / 8]; DINOv2-giant features [257, 1536].
LATENT_BYTES_PER_PIXEL = 4 * 2 / 64
FEATURE_BYTES = 257 * 1536 * 2


@dataclass(frozen=True)
class Plan:
    """What is to be made, and at which rates.

    sets, images: how many sets, and images of each; seconds: GPU time of an image; gpus: how many work at once;
    price: dollars of a GPU-hour; picture_bytes: bytes of an encoded picture; size: pixels of a side; sets_per_shard.
    """

    sets: int = PAPER_SETS
    images: int = PAPER_IMAGES
    seconds: float = PAPER_SECONDS
    gpus: int = 8
    price: float = 2.0
    picture_bytes: float = PAPER_JPEG_BYTES
    size: int = PAPER_SIZE
    sets_per_shard: int = 100

    def __post_init__(self) -> None:
        """Raise UserError for numbers that no data set has."""
        for name, value in vars(self).items():
            if name == "price" and value == 0:  # a machine of one's own
                continue
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name.replace('_', ' ')} is {value}; it must be above 0")


@dataclass(frozen=True)
class Costs:
    """pictures: how many; gpu_hours; dollars; days: with all GPUs at once; picture_bytes: of all pictures; shards: how
    many tar files; shard_bytes: of a full one; total_bytes: of all; latent_bytes, feature_bytes: of all images' latents
    and DINOv2-giant features, if those are stored too."""

    pictures: int
    gpu_hours: float
    dollars: float
    days: float
    picture_bytes: float
    shards: int
    shard_bytes: float
    total_bytes: float
    latent_bytes: float
    feature_bytes: float


def costs_of(plan: Plan) -> Costs:
    """What the plan costs."""
    pictures = plan.sets * plan.images
    gpu_hours = pictures * plan.seconds / 3600
    text_bytes = JSON_BYTES + JSON_BYTES_PER_IMAGE * plan.images
    set_bytes = plan.images * _entry_bytes(plan.picture_bytes) + _entry_bytes(text_bytes)
    return Costs(
        pictures=pictures,
        gpu_hours=gpu_hours,
        dollars=gpu_hours * plan.price,
        days=gpu_hours / plan.gpus / 24,
        picture_bytes=pictures * plan.picture_bytes,
        shards=-(-plan.sets // plan.sets_per_shard),
        shard_bytes=min(plan.sets, plan.sets_per_shard) * set_bytes,
        total_bytes=plan.sets * set_bytes,
        latent_bytes=pictures * LATENT_BYTES_PER_PIXEL * plan.size**2,
        feature_bytes=float(pictures * FEATURE_BYTES),
    )


def estimated_picture_bytes(format: str, quality: int, size: int) -> float:
    """Bytes of a generated picture of `size` x `size`: the paper's for JPEG at 95, shares of them for the others.

    Raises UserError for a format without an estimate.
    """
    if format == "png":
        share = PNG_SHARE
    elif format in SHARES:
        share = float(np.interp(quality, QUALITIES, SHARES[format]))
    else:
        raise UserError(f"format '{format}' has no estimate; it must be one of {', '.join(SHARES)}, png")
    return PAPER_JPEG_BYTES * share * (size / PAPER_SIZE) ** 2


def report(plan: Plan) -> list[tuple[str, str]]:
    """(name, sentence) of every figure, in the order to read them."""
    costs = costs_of(plan)
    gpus = f"{plan.gpus:,} GPU{'s' if plan.gpus > 1 else ''}"
    each = human_bytes(plan.picture_bytes)
    whole_shard = f"{plan.sets_per_shard:,} sets, {human_bytes(costs.shard_bytes)}"
    return [
        ("images", f"{plan.sets:,} sets x {plan.images} = {costs.pictures:,} images of {plan.size} px"),
        ("GPU time", f"{_rounded(costs.gpu_hours, '.3g')} GPU-hours, {plan.seconds:.3g} s an image"),
        ("money", f"${_rounded(costs.dollars, '.2f')} at ${plan.price:.2f} a GPU-hour"),
        ("wall time", f"{human_days(costs.days)} on {gpus}"),
        ("pictures", f"{human_bytes(costs.picture_bytes)}, {each} each"),
        ("shards", f"{costs.shards:,} of {whole_shard}; {human_bytes(costs.total_bytes)} in all"),
        ("latents", f"{human_bytes(costs.latent_bytes)} more, if they are stored (m2m data encode)"),
        ("features", f"{human_bytes(costs.feature_bytes)} more, if DINOv2-giant's are stored"),
    ]


def _entry_bytes(payload: float) -> float:
    """Bytes of a tar entry: a header block, the payload, and on average half a block of padding."""
    return TAR_BLOCK + payload + TAR_BLOCK / 2


def _rounded(value: float, small: str) -> str:
    """Whole numbers from 100 on, else in the format `small`."""
    return f"{value:,.0f}" if value >= 100 else format(value, small)
