"""The arithmetic of a plan, against the paper's figures and against shards that were really made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m2m.data.factory.assembly import encode_picture
from m2m.data.factory.build import build
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import FORMATS, BuildSettings
from m2m.data.generators import GeneratorOptions, Picture, open_generator
from m2m.data.reports.costs import PAPER_JPEG_BYTES, Plan, costs_of, estimated_picture_bytes, report
from m2m.data.reports.timing import measure
from m2m.data.reports.units import human_bytes, human_days
from m2m.types import UserError
from tests.data.factory.making import captions_folder, world_recipe


def test_the_papers_figures_come_out() -> None:
    """57,000 A100-hours and 32 TB for 306 million images; a plan that says else is wrong for everybody."""
    costs = costs_of(Plan())
    assert costs.pictures == 305_929_675
    assert round(costs.gpu_hours, -3) == 57_000
    assert costs.picture_bytes == pytest.approx(32e12)
    assert costs.shards == 122_372
    five = costs_of(Plan(images=5))
    assert five.gpu_hours == pytest.approx(costs.gpu_hours / 5)
    thirty_million = Plan(sets=30_000_000, images=1)
    assert round(costs_of(thirty_million).feature_bytes / 1e12, 1) == 23.7


def test_money_and_days_follow_from_the_rates() -> None:
    """Days of one GPU instead of all of them, or hours taken for seconds."""
    costs = costs_of(Plan(sets=1000, images=36, seconds=0.5, gpus=5, price=2.5))
    assert costs.gpu_hours == pytest.approx(5.0)
    assert costs.dollars == pytest.approx(12.5)
    assert costs.days == pytest.approx(1 / 24)
    assert costs_of(Plan(price=0)).dollars == 0


def test_bytes_of_shards_are_those_of_real_ones(tmp_path: Path) -> None:
    """Headers, padding and KEY.json: for small pictures they are half of a shard."""
    source = open_source(world_recipe(captions_folder(tmp_path / "captions", count=8), size=32, images_per_set=25))
    build(source, BuildSettings(out=tmp_path / "out", images=(0, 25), sets_per_shard=4, format="jpg"))
    shards = list((tmp_path / "out").glob("*.tar"))
    pictures = [entry for shard in shards for entry in _picture_sizes(shard)]
    plan = Plan(sets=8, images=25, picture_bytes=sum(pictures) / len(pictures), size=32, sets_per_shard=4)
    assert costs_of(plan).shards == len(shards) == 2
    assert costs_of(plan).total_bytes == pytest.approx(sum(shard.stat().st_size for shard in shards), rel=0.03)
    assert costs_of(plan).shard_bytes * 2 == pytest.approx(costs_of(plan).total_bytes)


def _picture_sizes(shard: Path) -> list[int]:
    from m2m.data.shards import scan

    return [member.size for member in scan(shard) if member.name.endswith(".jpg")]


def test_latents_are_counted_as_stable_diffusion_stores_them() -> None:
    """Four channels, an eighth of the side, two bytes: 32 kB of a picture of 512 pixels."""
    assert costs_of(Plan(sets=1, images=1)).latent_bytes == 4 * 64 * 64 * 2


def test_estimates_rise_with_quality_and_size() -> None:
    """A plan of WebP that costs as much as PNG would send people to JPEG."""
    assert estimated_picture_bytes("jpg", 95, 512) == pytest.approx(PAPER_JPEG_BYTES)
    for name in ("jpg", "webp"):
        sizes = [estimated_picture_bytes(name, quality, 512) for quality in (30, 50, 77, 90, 93, 100)]
        assert sizes == sorted(sizes)
    assert estimated_picture_bytes("webp", 90, 512) < estimated_picture_bytes("jpg", 90, 512)
    assert estimated_picture_bytes("png", 1, 256) == pytest.approx(estimated_picture_bytes("png", 1, 512) / 4)
    assert all(estimated_picture_bytes(name, 90, 64) > 0 for name in FORMATS)
    with pytest.raises(UserError, match="gif"):
        estimated_picture_bytes("gif", 90, 64)


def test_estimates_order_the_formats_as_real_pictures_do() -> None:
    """The shares are measured; this picture (a smooth one, with fine grain) must not contradict them."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.float32)
    smooth = np.kron(coarse, np.ones((32, 32, 1), np.float32)) * 0.5 + 60
    grain = np.random.default_rng(1).normal(0, 6, smooth.shape)
    picture = (smooth + grain).clip(0, 255).astype(np.uint8)
    kinds = [("webp", 75), ("jpg", 75), ("webp", 90), ("jpg", 95), ("png", 1)]
    real = [len(encode_picture(picture, name, quality)) for name, quality in kinds]
    estimated = [estimated_picture_bytes(name, quality, 256) for name, quality in kinds]
    assert np.argsort(real).tolist() == np.argsort(estimated).tolist()


@pytest.mark.parametrize("change", [{"sets": 0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"price": -1.0}])
def test_impossible_numbers_are_refused(change: dict[str, float]) -> None:
    """A plan of zero sets costs nothing, and one of NaN seconds prints nan dollars."""
    with pytest.raises(UserError, match=next(iter(change))):
        dataclasses.replace(Plan(), **change)  # type: ignore[arg-type]


def test_the_report_says_every_figure() -> None:
    """What stands in the costs but not in the report is worked out for nobody."""
    text = "\n".join(f"{name}: {sentence}" for name, sentence in report(Plan(gpus=64)))
    for figure in (
        "305,929,675 images",
        "56,937 GPU-hours",
        "$113,874",
        "37.1 days on 64 GPUs",
        "32.0 TB",
        "122,372 of",
    ):
        assert figure in text
    assert "on 1 GPU\n" in "\n".join(sentence for _, sentence in report(Plan(gpus=1)))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (104_600, "105 kB"),
        (32e12, "32.0 TB"),
    ],
)
def test_bytes_in_words(count: float, words: str) -> None:
    """1000 kB instead of 1.00 MB, or powers of 1024 under names of powers of 1000."""
    assert human_bytes(count) == words


@pytest.mark.parametrize(
    ("days", "words"), [(800, "2.2 years"), (2, "2.0 days"), (1.5, "36.0 hours"), (1 / 1440, "60.0 seconds")]
)
def test_times_in_words(days: float, words: str) -> None:
    """0.0 days for an hour, or 19,200 hours for two years."""
    assert human_days(days) == words


class Sleeper:
    """A generator that takes 20 ms for a batch, 600 ms for the first one; it rejects some images."""

    batch = 4

    def __init__(self, rejects: int = 0) -> None:
        self.calls: list[tuple[list[str], list[int]]] = []
        self._rejects = rejects

    def settings(self) -> dict[str, str]:
        return {"name": "sleeper"}

    def generate(self, captions: list[str], seeds: list[int]) -> list[Picture | None]:
        import time

        time.sleep(0.02 if self.calls else 0.6)
        self.calls.append((list(captions), list(seeds)))
        picture = np.zeros((16, 16, 3), np.uint8)
        return [None if i < self._rejects else picture for i in range(len(captions))]


def test_measuring_leaves_the_first_batch_out() -> None:
    """Loading and compiling would be counted for each of 306 million images."""
    generator = Sleeper(rejects=1)
    found = measure(generator, ["a", "b", "c"], lambda picture: b"x" * 100, batches=3)
    assert len(generator.calls) == 4 and found.images == 12
    assert 0.004 < found.seconds < 0.03  # a rejected image costs its time too
    assert (found.picture_bytes, found.size) == (100, 16)
    assert generator.calls[0][0] == ["a", "b", "c", "a"]
    seeds = [seed for _, batch in generator.calls for seed in batch]
    assert len(set(seeds)) == 16


def test_measuring_a_real_generator_weighs_its_pictures() -> None:
    """Bytes of a picture as they are stored, not of the array."""
    generator = open_generator(GeneratorOptions("world:mini", size=32, batch=2))
    found = measure(generator, ["three cats"], lambda picture: encode_picture(picture, "png", 1))
    assert 100 < found.picture_bytes < 32 * 32 * 3 and found.size == 32 and found.seconds > 0


def test_measuring_a_generator_that_rejects_everything_is_refused() -> None:
    """A plan of no bytes."""
    with pytest.raises(UserError, match="rejected every image"):
        measure(Sleeper(rejects=4), ["a"], lambda picture: b"")
