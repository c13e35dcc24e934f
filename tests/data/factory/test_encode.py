"""Encoding shards: the right array for every image, resumed to the same bytes, and never a mix of two encoders."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from m2m.data.factory.verify import verify
from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.shards import read_manifest
from m2m.types import UserError
from tests.data.factory.encoding import Averages, encode, latents_of, start_encode, start_python, wait_for
from tests.data.reading.toy_shards import full_sets, toy_picture, write_folder, write_shard, write_toy_manifest

SETS = 10


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """10 sets of 7 images in shards of 5, cut into two slices; one set is short, one has a gap."""
    sets = full_sets(SETS, 7)
    sets["set002"], sets["set006"] = [0, 1, 2], [0, 2, 3, 5, 6]
    return write_folder(tmp_path / "pictures", sets, per_shard=5, slices=[(0, 5), (5, 7)], seed=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def test_every_image_has_its_own_latents(pictures: Path, tmp_path: Path) -> None:
    """A row too many or too few, at a rejected image or at the end of a batch, shifts all latents behind it."""
    report = encode(pictures, tmp_path / "latents")
    assert report.complete and len(report.made) == 4
    source, dataset = ImageSetDataset(pictures), ImageSetDataset(tmp_path / "latents")
    assert len(dataset) == SETS
    for index in range(SETS):
        stored, one = source[index], dataset[index]
        assert (one.key, one.caption, sorted(one.numbers)) == (stored.key, stored.caption, sorted(stored.numbers))
        assert one.images is None and one.latents is not None and one.features is not None
        expected = latents_of(np.stack([toy_picture(one.key, number) for number in one.numbers]))
        assert np.array_equal(one.latents, expected)
        assert one.features.shape == (len(one.numbers), 1, 3)
        assert one.features[0, 0, 1] == one.numbers[0], "the green of a toy picture is its number"
    assert [entry.name for entry in read_manifest(tmp_path / "latents").shards] == [
        entry.name for entry in read_manifest(pictures).shards
    ]
    assert verify(tmp_path / "latents").findings == []


def test_reading_latents_decodes_no_picture(pictures: Path, tmp_path: Path) -> None:
    """With the pictures gone, everything that training needs must still be there; drawn as from the pictures."""
    encode(pictures, tmp_path / "latents", Averages(features=False))
    config = ReadConfig(images=3, seed=5)
    drawn = [ImageSetDataset(pictures, config).visit(index, 4).numbers for index in range(SETS)]
    for path in pictures.iterdir():
        path.unlink()
    dataset = ImageSetDataset(tmp_path / "latents", config)
    assert [dataset.visit(index, 4).numbers for index in range(SETS)] == drawn
    assert dataset[0].features is None
    entries = {path.suffix for path in (tmp_path / "latents").iterdir()}
    assert entries <= {".tar", ".json", ""}


def test_too_few_images_are_counted_in_latents_too(pictures: Path, tmp_path: Path) -> None:
    """Headers of latents do not say how many images there are; counted as one, every set would be left out."""
    encode(pictures, tmp_path / "latents")
    dataset = ImageSetDataset(tmp_path / "latents", ReadConfig(images=6, too_few="skip"))
    order = dataset.order(OrderConfig(batch_sets=1, shuffle=0, epochs=1))
    assert [plan.visits[0].index for plan in order] == [index for index in range(SETS) if index not in (2, 6)]


def test_a_second_run_makes_nothing_and_a_grown_source_only_what_is_new(tmp_path: Path) -> None:
    """Encoding all again for a few more images costs days."""
    pictures = write_folder(tmp_path / "pictures", full_sets(6, 7), per_shard=3, slices=[(0, 5)], images_per_set=7)
    encode(pictures, tmp_path / "latents")
    encoder = Averages()
    assert encode(pictures, tmp_path / "latents", encoder).made == () and encoder.encoded == 0
    for index in range(2):
        write_shard(pictures, index, (5, 7), full_sets(3, 7, first=3 * index))
    names = [path.stem for path in pictures.glob("shard-*.tar")]
    write_toy_manifest(pictures, names, sets=6, sets_per_shard=3, images_per_set=7)
    report = encode(pictures, tmp_path / "latents", encoder)
    assert report.made == ("shard-000000-005-007", "shard-000001-005-007") and report.complete
    assert encoder.encoded == 12
    encode(pictures, tmp_path / "at once")
    assert contents(tmp_path / "latents") == contents(tmp_path / "at once")


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Averages("other"), r"encoders\.latents is 'averages', not 'other'"),
        (Averages(batch=5), "batch is 6, not 5"),
        (Averages(features=False), r"encoders\.features is 'means', not None"),
    ],
)
def test_another_encoder_is_refused(pictures: Path, tmp_path: Path, encoder: Averages, said: str) -> None:
    """Latents of two autoencoders in one folder look alike and train nothing."""
    encode(pictures, tmp_path / "latents")
    before = contents(tmp_path / "latents")
    with pytest.raises(UserError, match=said):
        encode(pictures, tmp_path / "latents", encoder)
    assert contents(tmp_path / "latents") == before


def test_another_source_is_refused(pictures: Path, tmp_path: Path) -> None:
    """Other settings, or other bytes under the same settings: half of the latents would be of other pictures."""
    encode(pictures, tmp_path / "latents")
    other = write_folder(tmp_path / "other", full_sets(SETS, 7), per_shard=5, slices=[(0, 5), (5, 7)], seed=4)
    with pytest.raises(UserError, match=r"source\.seed is 3, not 4"):
        encode(other, tmp_path / "latents")
    same = write_folder(tmp_path / "same", full_sets(SETS, 7), per_shard=5, slices=[(0, 5), (5, 7)], seed=3)
    with pytest.raises(UserError, match="shard-000000-000-005' is not what"):
        encode(same, tmp_path / "latents")


def test_latents_and_the_source_itself_are_refused(pictures: Path, tmp_path: Path) -> None:
    """Latents encoded as pictures, or pictures overwritten by latents."""
    encode(pictures, tmp_path / "latents")
    with pytest.raises(UserError, match="holds latents already"):
        encode(tmp_path / "latents", tmp_path / "twice")
    before = contents(pictures)
    with pytest.raises(UserError, match="a folder of their own"):
        encode(pictures, pictures)
    assert contents(pictures) == before


def test_latents_of_different_encoders_are_not_read_together(pictures: Path, tmp_path: Path) -> None:
    """One model cannot learn from two latent spaces, and no shape tells them apart."""
    more = write_folder(tmp_path / "more", full_sets(4, 7, first=50))
    encode(pictures, tmp_path / "a")
    encode(more, tmp_path / "b", Averages("other"))
    encode(more, tmp_path / "c")
    with pytest.raises(UserError, match="do not go together"):
        ImageSetDataset([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match="holds pictures"):
        ImageSetDataset([pictures, tmp_path / "c"])
    assert len(ImageSetDataset([tmp_path / "a", tmp_path / "c"])) == SETS + 4
    with pytest.raises(UserError, match="latents of 8 pixels; 16 cannot"):
        ImageSetDataset(tmp_path / "a", ReadConfig(size=16))


def test_a_damaged_source_shard_is_named_and_the_others_are_encoded(pictures: Path, tmp_path: Path) -> None:
    """One bad file of thousands must neither stop a long run nor be encoded as if it were whole."""
    path = pictures / "shard-000000-005-007.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + b"x" + whole[1001:])
    report = encode(pictures, tmp_path / "latents")
    ((name, error),) = report.failed
    assert name == "shard-000000-005-007" and "shard-000000-005-007.tar" in error
    assert len(report.made) == 3 and not report.complete
    assert not read_manifest(tmp_path / "latents").complete
    path.write_bytes(whole)
    report = encode(pictures, tmp_path / "latents")
    assert report.made == (name,) and report.complete
    encode(pictures, tmp_path / "at once")
    assert contents(tmp_path / "latents") == contents(tmp_path / "at once")


def test_a_picture_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """Squeezed or cut without a word, its latents would be of another picture; stacked, numpy's error names nothing."""
    pictures = write_folder(tmp_path / "pictures", full_sets(3, 4), sizes={"set001": (12, 6)})
    with pytest.raises(UserError, match=r"000-025\.tar', set 'set001', image 3: it has 12x6 pixels"):
        encode(pictures, tmp_path / "latents")


def test_latents_that_are_not_finite_are_refused(pictures: Path, tmp_path: Path) -> None:
    """An autoencoder that overflows in float16 gives NaN; training on it ends in NaN after days."""

    class Overflows(Averages):
        def encode(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
            return {name: array * np.float16(np.inf) for name, array in super().encode(pictures).items()}

    with np.errstate(invalid="ignore"), pytest.raises(UserError, match="not finite"):
        encode(pictures, tmp_path / "latents", Overflows())


def test_a_stopped_run_continues_to_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    """Cut anew after a stop, the batches would differ, and with them the last bits."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2  # asked before the shard and before each of its two units

    report = encode(pictures, tmp_path / "latents", stop=stop)
    assert not report.made and (tmp_path / "latents" / "shard-000000-000-005.journal").exists()
    assert report.left and not report.complete and not read_manifest(tmp_path / "latents").complete
    seen: list[tuple[int, int]] = []
    assert encode(pictures, tmp_path / "latents", progress=lambda done, total: seen.append((done, total))).complete
    assert seen[-1] == (19, 19), "9 of the 10 sets have images in the second slice"
    encode(pictures, tmp_path / "at once")
    assert contents(tmp_path / "latents") == contents(tmp_path / "at once")


def committed_units(out: Path) -> int:
    """How many units of unfinished shards are safe: lines of the journals behind the first."""
    units = 0
    for path in out.glob("*.journal"):
        with suppress(FileNotFoundError):
            units += max(0, path.read_bytes().count(b"\n") - 1)
    return units


def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path) -> None:
    """Half a unit taken for a whole one, or a unit encoded twice: both show in the bytes."""
    pictures = write_folder(tmp_path / "pictures", full_sets(40, 3), per_shard=20)
    out, drawn = tmp_path / "latents", random.Random(4)
    kills = committed = 0
    for _ in range(4):
        process = start_encode(pictures, out, wait=0.02)
        wait_for(lambda: committed_units(out), process)
        time.sleep(drawn.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        committed += committed_units(out)
    assert kills and committed, "none was struck within a shard"
    encode(pictures, out)
    encode(pictures, tmp_path / "at once")
    assert contents(out) == contents(tmp_path / "at once")


def test_two_processes_share_the_work(pictures: Path, tmp_path: Path) -> None:
    """Two writers of one file mix their bytes; two readers that wait for each other never end."""
    out = tmp_path / "latents"
    processes = [start_encode(pictures, out, wait=0.05) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert encode(pictures, out).complete
    encode(pictures, tmp_path / "at once")
    assert contents(out) == contents(tmp_path / "at once")


def test_a_full_disk_is_one_line_and_a_later_run_continues(pictures: Path, tmp_path: Path) -> None:
    """A disk that fills up at night must leave everything that was committed."""
    out = tmp_path / "latents"
    code = (
        "import resource, signal, sys; from pathlib import Path; from tests.data.factory.encoding import encode\n"
        "from m2m.types import UserError; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try:\n    encode(Path(sys.argv[1]), Path(sys.argv[2]))\nexcept UserError as error:\n    print(error)\n"
    )
    said, _ = start_python(code, pictures, out).communicate(timeout=60)
    assert said.count("\n") == 1 and "cannot be written" in said
    assert encode(pictures, out).complete
    encode(pictures, tmp_path / "at once")
    assert contents(out) == contents(tmp_path / "at once")


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    """Reading ahead without a bound would hold a whole shard of decoded pictures."""
    sets = full_sets(60, 3)
    pictures = write_folder(tmp_path / "pictures", sets, per_shard=60)
    waiting: list[int] = []

    class Counts(Averages):
        prepared = 0

        def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
            self.prepared += 1
            return super().prepare(picture)

        def encode(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
            time.sleep(0.01)  # the threads would run far ahead now
            waiting.append(self.prepared - self.encoded)
            return super().encode(pictures)

    encode(pictures, tmp_path / "latents", Counts())
    assert max(waiting) <= 3 * (3 * 4 + 1), "a unit that is encoded, two ahead"


def test_sets_without_an_image_stay_in_the_shard(tmp_path: Path) -> None:
    """A set whose images were all rejected must not shift the others, nor lose its name."""
    sets: dict[str, Sequence[int]] = {**full_sets(3, 2), "set001": []}
    pictures = write_folder(tmp_path / "pictures", sets)
    encode(pictures, tmp_path / "latents")
    dataset = ImageSetDataset(tmp_path / "latents")
    assert [dataset[0].key, dataset[2].key] == ["set000", "set002"]
    with pytest.raises(UserError, match="set 'set001' has 0 images"):
        dataset[1]


def test_meta_of_the_source_is_kept(pictures: Path, tmp_path: Path) -> None:
    """Captions and seeds are needed as long as the latents are; the source may be gone by then."""
    encode(pictures, tmp_path / "latents")
    folder = ShardFolder(tmp_path / "latents")
    with folder.open(folder.manifest.shards[0]) as shard:
        meta = json.loads(shard.read(2)["json"])
    assert meta["caption"] == "caption of set002" and meta["images"] == [0, 5]
    assert meta["encoded"]["numbers"] == [0, 1, 2] and len(meta["encoded"]["source_sha256"]) == 64
