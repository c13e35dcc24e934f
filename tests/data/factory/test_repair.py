"""Repair: the very bytes again, from the very same source, or the damaged file as it was and a word about it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from m2m.checkpoint import write_json
from m2m.data.factory.build import build
from m2m.data.factory.encode import EncodeSettings, encode_shards
from m2m.data.factory.recipes import open_source
from m2m.data.factory.repair import library_versions, repair, repair_encoded
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import SetPlan, SetSource
from m2m.data.factory.verify import verify
from m2m.data.generators import Picture
from m2m.data.reading.shard_files import ShardFolder
from m2m.types import UserError
from tests.data.factory.making import LoggedSets, asked, captions_folder, contents, world_recipe
from tests.data.factory.test_encode import Averages
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.data.shards.making import flip

FIRST, SECOND, THIRD = "shard-000000-000-002", "shard-000001-000-002", "shard-000000-002-004"


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("repair") / "captions", count=5)


@pytest.fixture(scope="module")
def whole(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 sets in shards of 3 and 2, images 0:2 and 2:4 in shards of their own, as PNG."""
    out = tmp_path_factory.mktemp("whole") / "shards"
    for images in ((0, 2), (2, 4)):
        build(source_of(captions), BuildSettings(out=out, images=images, sets_per_shard=3, format="png"))
    return out


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def source_of(captions: Path, **more: Any) -> SetSource:
    return open_source(world_recipe(captions, images_per_set=4, **more))


class BrighterSets(LoggedSets):
    """The same source by its settings, with other pixels: as of another version of a library."""

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        return [None if picture is None else 255 - picture for picture in super().make(requests)]


def damage_three_ways(folder: Path) -> list[str]:
    flip(folder / f"{FIRST}.tar", 1500)
    (folder / f"{SECOND}.tar").unlink()
    (folder / f"{THIRD}.json").write_text("{}")
    return [FIRST, THIRD, SECOND]


def test_damaged_shards_come_back_byte_for_byte(folder: Path, whole: Path, captions: Path, tmp_path: Path) -> None:
    """Everything else must stay as it is, and nothing else be made: a whole rebuild costs weeks."""
    damaged = damage_three_ways(folder)
    report = verify(folder)
    assert sorted(report.damaged) == sorted(damaged)
    source = LoggedSets(source_of(captions), tmp_path / "log")
    assert repair(folder, source, report.damaged).repaired == tuple(report.damaged)
    assert contents(folder) == contents(whole)
    assert sum(asked(tmp_path / "log").values()) == 3 * 2 + 2 * 2 + 3 * 2
    assert not (folder / ".repair").exists()


def test_another_source_is_refused_with_what_differs(folder: Path, captions: Path) -> None:
    """Pictures of another seed in the place of the damaged ones would fit their captions and be other data."""
    damage_three_ways(folder)
    before = contents(folder)
    with pytest.raises(UserError, match="seed is 0, not 1"):
        repair(folder, source_of(captions, seed=1), [FIRST])
    with pytest.raises(UserError, match="sets is 5, not 4"):
        repair(folder, source_of(captions, sets=4), [FIRST])
    assert contents(folder) == before


def test_other_bytes_do_not_take_the_place_of_damaged_ones(folder: Path, captions: Path, tmp_path: Path) -> None:
    """The manifest would state digests that no file has; and the next try must not find the wrong bytes ready."""
    flip(folder / f"{FIRST}.tar", 1500)
    before = contents(folder)
    report = repair(folder, BrighterSets(source_of(captions), tmp_path / "log"), [FIRST])
    assert (report.repaired, report.different) == ((), (FIRST,))
    assert contents(folder) == before
    assert repair(folder, source_of(captions), [FIRST]).repaired == (FIRST,)


def test_a_shard_that_cannot_be_made_stays_as_it_is(folder: Path, captions: Path, tmp_path: Path) -> None:
    """One bad shard must not keep the others from being repaired."""
    flip(folder / f"{FIRST}.tar", 1500)
    flip(folder / f"{SECOND}.tar", 1500)
    source = source_of(captions)
    report = repair(folder, LoggedSets(source, tmp_path / "log", bad=[source.sets(0, 1)[0].key]), [FIRST, SECOND])
    assert (report.repaired, [failure.name for failure in report.failed]) == ((SECOND,), [FIRST])
    assert verify(folder).damaged == [FIRST]


def test_a_repair_that_is_cut_off_goes_on(folder: Path, whole: Path, captions: Path, tmp_path: Path) -> None:
    """What was made before Ctrl-C would be made again, or lie there for ever."""
    damaged = damage_three_ways(folder)
    first, second = (LoggedSets(source_of(captions), tmp_path / name) for name in ("first", "second"))
    report = repair(folder, first, damaged, stop=lambda: sum(asked(tmp_path / "first").values()) >= 8)
    assert report.left and ".repair" in {finding.name for finding in verify(folder).findings}
    assert set(repair(folder, second, report.left).repaired) == set(report.left)
    assert contents(folder) == contents(whole)
    assert not asked(tmp_path / "first").keys() & asked(tmp_path / "second").keys()


def test_only_shards_of_the_manifest_are_repaired(folder: Path, captions: Path) -> None:
    """Without the manifest's digest nobody can say whether what was made is right."""
    with pytest.raises(UserError, match="has no shard 'shard-000005-000-002'"):
        repair(folder, source_of(captions), ["shard-000005-000-002"])
    write_json(folder / "manifest.json", {})
    with pytest.raises(UserError, match="the command that made the folder writes it again"):
        repair(folder, source_of(captions), [FIRST])


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, captions: Path) -> None:
    """A traceback for a file in the way of the folder that the repair works in."""
    flip(folder / f"{FIRST}.tar", 1500)
    (folder / ".repair").touch()
    with pytest.raises(UserError, match=r"\.repair"):
        repair(folder, source_of(captions), [FIRST])


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    """Latents of 8 sets in shards of 4, images 0:2 and 2:4 in shards of their own."""
    pictures = write_folder(tmp_path / "pictures", full_sets(8, 4), per_shard=4, slices=[(0, 2), (2, 4)])
    encode_shards(ShardFolder(pictures), Averages(), EncodeSettings(tmp_path / "latents"))
    return tmp_path / "latents"


def test_latents_come_back_byte_for_byte(latents: Path, tmp_path: Path) -> None:
    """Encoding needs the pictures, not the captions: another way, the same promise."""
    before = contents(latents)
    flip(latents / f"{THIRD}.tar", 1500)
    (latents / f"{SECOND}.json").unlink()
    damaged = verify(latents).damaged
    encoder = Averages()
    report = repair_encoded(latents, ShardFolder(tmp_path / "pictures"), encoder, damaged)
    assert set(report.repaired) == {SECOND, THIRD}
    assert contents(latents) == before
    assert encoder.encoded == 2 * 4 * 2


def test_latents_of_another_encoder_are_refused(latents: Path, tmp_path: Path) -> None:
    """Latents of two autoencoders in one folder train a model on noise."""
    flip(latents / f"{FIRST}.tar", 1500)
    with pytest.raises(UserError, match="another autoencoder"):
        repair_encoded(latents, ShardFolder(tmp_path / "pictures"), Averages("another autoencoder"), [FIRST])


def test_the_libraries_that_shape_the_bytes_are_named() -> None:
    """WebP of another version of libwebp has other bytes; Pillow's own version does not tell."""
    told = library_versions()
    for word in ("torch 2", "diffusers ", "pillow ", "webp 1", "libjpeg_turbo "):
        assert word in told
