"""Counts of folders of shards, against what was put into them; and the plot of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.data.captions.store import CaptionStore
from m2m.data.captions.tokens import ClipTokenCounter
from m2m.data.factory.build import build
from m2m.data.factory.encode import EncodeSettings, encode_shards
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reports.plots import plot
from m2m.data.reports.statistics import Statistics, collect, spread, summary
from m2m.data.shards import scan
from m2m.types import UserError
from tests.data.factory.making import captions_folder, world_recipe
from tests.data.factory.test_encode import Averages
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.data.shards.making import flip


def count_words(captions: list[str]) -> list[int]:
    return [len(caption.split()) for caption in captions]


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """6 sets of 5, 5, 3, 5, 5, 0 images in shards of 4, images 0:2 and 2:5 in shards of their own."""
    sets = full_sets(6)
    sets["set002"], sets["set005"] = [0, 1, 4], []
    return write_folder(tmp_path / "uneven", sets, per_shard=4, slices=[(0, 2), (2, 5)], sizes={"set001": (12, 6)})


def test_every_count_is_right(uneven: Path) -> None:
    """A set in two slices counted twice, or one without images forgotten."""
    found = collect(uneven, count_words, workers=2)
    tars = list(uneven.glob("*.tar"))
    pictures = [member.size for path in tars for member in scan(path) if member.name.endswith(".png")]
    assert (found.shards, found.sets, found.images) == (len(tars), 6, 23)
    assert found.images_per_set == Counter({5: 4, 3: 1, 0: 1})
    assert found.bytes == sum(path.stat().st_size for path in tars)
    assert found.picture_bytes == Counter(pictures)
    assert found.formats == Counter(png=23)
    assert found.picture_sizes["8 x 8"] >= 5
    assert found.tokens == Counter({3: 6})  # "caption of set000", counted here for lack of a stated number
    assert found.unreadable == []


def test_stated_token_counts_are_taken(tmp_path: Path) -> None:
    """Counting 12 million captions again takes a quarter of an hour; the build has done it."""
    captions = captions_folder(tmp_path / "captions", count=4)
    build(open_source(world_recipe(captions)), BuildSettings(out=tmp_path / "out", images=(0, 5)))
    stated = Counter(row.tokens for row in CaptionStore.open(captions).rows("train", 0, 4))
    asked: list[str] = []
    assert collect(tmp_path / "out", lambda texts: asked.extend(texts) or []).tokens == stated
    assert asked == []
    assert ClipTokenCounter().counts(["a photo of a cat"]) == [7]


def test_a_damaged_shard_is_named_and_left_out(uneven: Path) -> None:
    """One bad shard of a hundred thousand must not hide what the others hold."""
    flip(uneven / "shard-000001-000-002.tar", 100)
    found = collect(uneven, count_words)
    assert len(found.unreadable) == 1 and "shard-000001-000-002" in found.unreadable[0]
    assert found.shards == 3


def test_a_missing_shard_is_an_error(uneven: Path, tmp_path: Path) -> None:
    """Counts of what happens to be there, given as those of the folder."""
    (uneven / "shard-000000-000-002.tar").unlink()
    with pytest.raises(UserError, match="lacks 'shard-000000-000-002.tar'"):
        collect(uneven, count_words)
    with pytest.raises(UserError, match="does not exist"):
        collect(tmp_path / "nowhere", count_words)


def test_latents_are_counted_by_their_images(tmp_path: Path) -> None:
    """A folder of latents holds no picture files, but as many images."""
    pictures = write_folder(tmp_path / "pictures", full_sets(4, 3), slices=[(0, 3)])
    encode_shards(ShardFolder(pictures), Averages(), EncodeSettings(tmp_path / "latents"))
    found = collect(tmp_path / "latents", count_words)
    assert (found.sets, found.images, found.images_per_set) == (4, 12, Counter({3: 4}))
    assert found.formats == Counter({"latents.npy": 4, "features.npy": 4})
    assert not found.picture_bytes and spread(found.picture_bytes) == {}
    assert save(plot({"latents": found}), tmp_path).size == (1430, 910)


def test_spread_is_that_of_the_numbers_themselves() -> None:
    """Quantiles of the different numbers instead of all: a rare outlier becomes the median."""
    numbers = [1] * 50 + [2] * 30 + [40] * 20
    found = spread(Counter(numbers))
    assert found["mean"] == pytest.approx(np.mean(numbers))
    for name, share in (("least", 0), ("5%", 0.05), ("median", 0.5), ("95%", 0.95), ("most", 1)):
        assert found[name] == np.quantile(numbers, share, method="lower"), name


def test_the_summary_is_json(uneven: Path) -> None:
    """Counters with whole numbers as keys, numpy numbers, NaN: what JSON readers stumble over."""
    values = json.loads(json.dumps(summary(collect(uneven, count_words)), allow_nan=False))
    assert values["sets"] == 6 and values["images_per_set"]["counts"] == {"0": 1, "3": 1, "5": 4}
    assert values["picture_bytes"]["least"] <= values["picture_bytes"]["median"] <= values["picture_bytes"]["most"]
    assert values["formats"] == {"png": 23}


def example(sets: int, tokens: int = 20) -> Statistics:
    draw = np.random.default_rng(0)
    return Statistics(
        shards=3,
        sets=sets,
        images=25 * sets,
        images_per_set=Counter({25: sets}),
        tokens=Counter(draw.poisson(tokens, sets).tolist()),
        picture_bytes=Counter(draw.normal(60_000, 9_000, 25 * sets).astype(int).tolist()),
        shard_bytes=Counter([150_000_000] * 3),
    )


def save(figure: object, folder: Path) -> Image.Image:
    figure.savefig(folder / "plot.png")  # type: ignore[attr-defined]
    with Image.open(folder / "plot.png") as image:
        image.load()
        return image


def test_the_plot_shows_every_set_once(tmp_path: Path) -> None:
    """Bins that leave out the smallest or the largest number, or count the border twice."""
    figure = plot({"mis": example(200)})
    assert save(figure, tmp_path).size == (1430, 910)
    for axes, total in zip(figure.axes, (200, 200, 5000, 3), strict=True):
        heights = axes.patches[0].get_data().values
        assert heights.sum() == total, axes.get_xlabel()
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "images of a set",
        "CLIP tokens of a caption",
        "kB of a picture",
        "MB of a shard",
    ]
    assert figure.get_suptitle() == "mis: 200 sets, 5,000 images"


def test_several_folders_are_shown_as_shares(tmp_path: Path) -> None:
    """Beside twelve million sets, ten thousand are a line of no height."""
    figure = plot({"large": example(2000), "small": example(20, tokens=60)})
    for axes in figure.axes:
        shares = [patch.get_data().values.sum() for patch in axes.patches]
        assert shares == pytest.approx([100] * 4)
        assert axes.get_ylabel().startswith("% of")
    assert "small: 20 sets, 500 images" in [text.get_text() for text in figure.legends[0].get_texts()]
    save(figure, tmp_path)


def test_an_empty_folder_can_be_plotted(tmp_path: Path) -> None:
    """The largest of no numbers raises."""
    save(plot({"empty": Statistics()}), tmp_path)
