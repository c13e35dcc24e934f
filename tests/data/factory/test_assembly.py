"""Making shards: what lies in them, that little is in flight, and what stays where an error or a stop ends the work."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2m.data.factory.assembly import IN_FLIGHT, Assembly, encode_picture, units_of
from m2m.data.factory.jobs import ShardJob
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import SetPlan
from m2m.data.generators import Picture
from m2m.data.shards import ShardBusy, ShardReader, ShardWriter, read_record


class Patterns:
    """Sets of given sizes; each image is random dots of its own seed. `rejected` are made and then refused."""

    def __init__(self, sizes: Sequence[int], batch: int = 4, rejected: Sequence[tuple[int, int]] = ()) -> None:
        self.batch, self._sizes, self._rejected = batch, sizes, rejected
        self.asked: list[tuple[str, int]] = []

    def settings(self) -> dict[str, Any]:
        return {"source": "patterns"}

    def __len__(self) -> int:
        return len(self._sizes)

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        return [SetPlan(f"set{i}", self._sizes[i], {"caption": f"dots of set {i}, größer"}) for i in range(start, stop)]

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        self.asked += [(plan.key, number) for plan, number in requests]
        return [self.picture(int(plan.key[3:]), number) for plan, number in requests]

    def picture(self, of: int, number: int) -> Picture | None:
        dots = np.random.default_rng((of, number)).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        return None if (of, number) in self._rejected else dots


def settings(folder: Path, image_format: str = "png", images: tuple[int, int] = (0, 3)) -> BuildSettings:
    return BuildSettings(out=folder, images=images, format=image_format)


def entries(folder: Path, name: str) -> list[dict[str, bytes]]:
    """What each set of a shard holds: suffix -> content."""
    with ShardReader(folder / f"{name}.tar", read_record(folder, name)) as reader:
        return [reader.read(i) for i in range(len(reader))]


def made(source: Any, folder: Path, job: ShardJob, image_format: str = "png") -> list[dict[str, bytes]]:
    with Assembly(source, settings(folder, image_format)) as assembly:
        assembly.make(job)
        outcome = assembly.drain()[0]
    assert outcome.error is None and outcome.record is not None
    return entries(folder, job.name)


def test_a_shard_holds_each_image_under_its_number_and_then_the_description(tmp_path: Path) -> None:
    """Encoders end in any order; an image that lands under a neighbour's number is a wrong pair of seed and picture."""
    source = Patterns([3, 3, 3])
    sets = made(source, tmp_path, ShardJob(0, (0, 3), 0, 3))
    assert [list(content) for content in sets] == [["000.png", "001.png", "002.png", "json"]] * 3
    for of, content in enumerate(sets):
        for number in range(3):
            decoded = np.asarray(Image.open(io.BytesIO(content[f"00{number}.png"])))
            assert np.array_equal(decoded, source.picture(of, number))
        description = json.loads(content["json"])
        assert description == {"key": f"set{of}", "images": [0, 3], "caption": f"dots of set {of}, größer"}


def test_a_later_slice_keeps_the_numbers(tmp_path: Path) -> None:
    """Images 5 to 24 stored as 0 to 19 would stand for other seeds, and hide the first ones where both are read."""
    content = made(Patterns([3, 1, 9]), tmp_path, ShardJob(0, (2, 5), 0, 3))
    assert [list(one) for one in content] == [["002.png", "json"], ["002.png", "003.png", "004.png", "json"]]
    assert [json.loads(one["json"])["images"] for one in content] == [[2, 3], [2, 5]]


def test_a_rejected_image_is_left_out_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    """A safety checker's refusal must not end the run, shift images to other seeds, or cost the description."""
    source = Patterns([3, 2], rejected=[(0, 1), (1, 0), (1, 1)])
    first, second = made(source, tmp_path, ShardJob(0, (0, 3), 0, 2))
    assert list(first) == ["000.png", "002.png", "json"]
    assert list(second) == ["json"]


def test_a_shard_without_any_image_is_whole(tmp_path: Path) -> None:
    """Sets of folders differ in length; the slice 5:25 of short ones is empty, and a later run must not retry it."""
    assert made(Patterns([3, 2]), tmp_path, ShardJob(0, (5, 25), 0, 2)) == []


@pytest.mark.parametrize(("image_format", "name"), [("webp", "WEBP"), ("png", "PNG"), ("jpg", "JPEG")])
def test_pictures_are_stored_in_their_format_and_the_same_each_time(image_format: str, name: str) -> None:
    """Bytes that differ from run to run would make every shard made again a damaged one."""
    picture = np.asarray(Image.radial_gradient("L").resize((32, 32)).convert("RGB"))
    content = encode_picture(picture, image_format, 90)
    decoded = Image.open(io.BytesIO(content))
    assert (decoded.format, decoded.size, decoded.mode) == (name, (32, 32), "RGB")
    assert np.abs(np.asarray(decoded).astype(int) - picture).mean() < 4
    assert encode_picture(picture.copy(), image_format, 90) == content
    if image_format != "png":
        assert len(encode_picture(picture, image_format, 20)) < len(content)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (3, 8, 8)])
def test_arrays_that_are_no_pictures_are_refused(shape: tuple[int, ...]) -> None:
    """Channels first, or an alpha channel, would be stored as a picture of noise or of another size."""
    with pytest.raises(ValueError, match="uint8"):
        encode_picture(np.zeros(shape, np.uint8), "webp", 90)
    with pytest.raises(ValueError, match="float32"):
        encode_picture(np.zeros((8, 8, 3), np.float32), "webp", 90)  # type: ignore[arg-type]


def test_units_are_fixed_slices(tmp_path: Path) -> None:
    """Units that follow from what is left to do, not from the job, would resume a shard with other batches."""
    plans = Patterns([3, 1, 4]).sets(0, 3)
    numbers = [[(plan.key, number) for plan, number in unit] for unit in units_of(plans, (1, 3), batch=3)]
    assert numbers == [[("set0", 1), ("set0", 2), ("set2", 1)], [("set2", 2)]]


def test_few_units_are_made_ahead_of_the_disk(tmp_path: Path) -> None:
    """Without a bound, a generator that is faster than the encoder fills the memory."""
    ahead = []

    class Watched(Patterns):
        def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
            ahead.append(len(self.asked) - assembly.images)
            super().make(requests)
            return [np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)] * len(requests)

    source = Watched([8] * 8, batch=2)
    with Assembly(source, BuildSettings(out=tmp_path, images=(0, 8), encoders=1)) as assembly:
        assembly.make(ShardJob(0, (0, 8), 0, 8))
    assert 2 <= max(ahead) <= 2 * (IN_FLIGHT + 1)
    assert assembly.images == 64


def test_generation_goes_on_while_a_shard_is_written(tmp_path: Path) -> None:
    """Waiting for each shard's last bytes would leave the generator idle between shards."""
    order: list[str] = []

    class Watched(Patterns):
        def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
            order.extend(f"done {outcome.job.index}" for outcome in assembly.outcomes())
            order.append(f"make {requests[0][0].key}")
            return [np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)] * len(requests)

    with Assembly(Watched([4, 4]), settings(tmp_path, "webp")) as assembly:
        assembly.make(ShardJob(0, (0, 3), 0, 1))
        assembly.make(ShardJob(1, (0, 3), 1, 2))
        assert len(assembly.drain()) + sum(line.startswith("done") for line in order) == 2
    assert order.index("make set1") < (order.index("done 0") if "done 0" in order else len(order))


def test_what_was_made_before_an_error_is_kept(tmp_path: Path) -> None:
    """A shard that begins from nothing after each error makes its images three times."""
    job = ShardJob(0, (0, 4), 0, 4)

    class Failing(Patterns):
        broken = True

        def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
            if self.broken and len(self.asked) >= 8:
                raise RuntimeError("out of memory")
            return super().make(requests)

    source = Failing([4] * 4)
    with Assembly(source, settings(tmp_path, images=(0, 4))) as assembly:
        assembly.make(job)
        (outcome,) = assembly.drain()
        assert outcome.record is None and str(outcome.error) == "out of memory"
        source.broken = False
        assembly.make(job)
        (outcome,) = assembly.drain()
    assert outcome.record is not None and outcome.record.count == 4
    assert len(source.asked) == len(set(source.asked)) == 16


def test_an_encoders_error_is_the_shards(tmp_path: Path) -> None:
    """It happens in another thread, where an exception is easily lost and the shard short of a unit."""

    class Grey(Patterns):
        def picture(self, of: int, number: int) -> Picture | None:
            picture = super().picture(of, number)
            return picture if of == 0 or picture is None else picture[:, :, 0]

    source = Grey([4] * 8)
    with Assembly(source, settings(tmp_path, images=(0, 4))) as assembly:
        assembly.make(ShardJob(0, (0, 4), 0, 8))
        (outcome,) = assembly.drain()
    assert outcome.record is None and "uint8 [H, W, 3]" in str(outcome.error)
    with ShardWriter.open(tmp_path, "shard-000000-000-004", 0, (0, 4), 8) as writer:
        assert writer.committed == 1  # set 0 alone: no unit behind the broken one


def test_too_few_images_from_a_source_are_an_error(tmp_path: Path) -> None:
    """Paired up as far as they go, the last images of a set would be missing without a word."""

    class Short(Patterns):
        def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
            return super().make(requests)[:-1]

    with Assembly(Short([3]), settings(tmp_path)) as assembly:
        assembly.make(ShardJob(0, (0, 3), 0, 1))
        (outcome,) = assembly.drain()
    assert "2 images where 3" in str(outcome.error)


def test_a_stop_commits_what_is_made_and_the_next_run_goes_on_behind_it(tmp_path: Path) -> None:
    """Preemption gives seconds; what a GPU has made by then must not be lost."""
    job, source = ShardJob(0, (0, 4), 0, 4), Patterns([4] * 4)
    with Assembly(source, settings(tmp_path, images=(0, 4)), stop=lambda: len(source.asked) >= 8) as assembly:
        assembly.make(job)
        (outcome,) = assembly.drain()
    assert (outcome.record, outcome.error, assembly.images) == (None, None, 8)
    with Assembly(source, settings(tmp_path, images=(0, 4))) as assembly:
        assembly.make(job)
    assert len(source.asked) == len(set(source.asked)) == 16
    stopped = (tmp_path / f"{job.name}.tar").read_bytes()
    (tmp_path / "other").mkdir()
    made(Patterns([4] * 4), tmp_path / "other", job)
    assert stopped == (tmp_path / "other" / f"{job.name}.tar").read_bytes()


def test_a_shard_that_another_writer_holds_is_busy(tmp_path: Path) -> None:
    """Two writers in one file would mix their bytes."""
    job = ShardJob(0, (0, 3), 0, 1)
    with Assembly(Patterns([3]), settings(tmp_path)) as assembly:
        with ShardWriter.open(tmp_path, job.name, 0, (0, 3), 1), pytest.raises(ShardBusy):
            assembly.make(job)
        assembly.make(job)
        assert assembly.drain()[0].record is not None
