"""Damaged or mismatched shards are errors that name the shard, before a set of it is lost in silence."""

from __future__ import annotations

import json
import random
import traceback
from pathlib import Path

import pytest

from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.shards import ShardError, scan
from tests.data.reading.loading import load, seen
from tests.data.reading.toy_shards import full_sets, write_folder, write_shard, write_toy_manifest


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_stops_the_epoch_and_names_the_shard(tmp_path: Path, workers: int) -> None:
    """Plain webdataset takes a damaged header for the end of the shard: the sets behind it are lost without a word."""
    folder = write_folder(tmp_path / "shards", full_sets(10))
    record = json.loads((folder / "shard-000001-000-025.json").read_text())
    damage(folder / "shard-000001-000-025.tar", record["samples"][2]["offset"] + 3)  # in the header of its first image
    with pytest.raises(ShardError, match="shard-000001-000-025") as caught:
        load(ImageSetDataset(folder), workers=workers, epochs=1)
    # A loader that the garbage collector finds waits 5 s for each worker; freed by its last name, it does not.
    traceback.clear_frames(caught.tb)


@pytest.mark.parametrize("kind", ["cut", "flip", "header"])
def test_any_damage_is_found_before_the_epoch_ends(tmp_path: Path, kind: str) -> None:
    """Of 20 flipped header bytes plain webdataset loses samples 20 times without a word."""
    folder = write_folder(tmp_path / "shards", full_sets(6, 3), per_shard=3)
    path = folder / "shard-000001-000-025.tar"
    whole = path.read_bytes()
    headers = [member.start for member in scan(path)]
    draw = random.Random(kind)
    for _ in range(25):
        place = draw.randrange(len(whole))
        if kind == "header":
            place = draw.choice(headers) + draw.randrange(512)
        flipped = bytes([whole[place] ^ (1 << draw.randrange(8))])
        path.write_bytes(whole[:place] if kind == "cut" else whole[:place] + flipped + whole[place + 1 :])
        with pytest.raises(ShardError, match="shard-000001-000-025"):
            load(ImageSetDataset(folder, ReadConfig(images=1)), epochs=1)
    path.write_bytes(whole)
    assert len(seen(load(ImageSetDataset(folder), epochs=1))) == 6


def test_damaged_headers_are_found_when_sets_are_left_out(tmp_path: Path) -> None:
    """Counting images by a lenient reader would leave a damaged set out as if it had too few."""
    folder = write_folder(tmp_path / "shards", full_sets(4))
    damage(folder / "shard-000000-000-025.tar", 3)
    with pytest.raises(ShardError, match="shard-000000-000-025"):
        load(ImageSetDataset(folder, ReadConfig(images=2, too_few="skip")), epochs=1)


def test_a_later_slice_with_a_strange_set_is_named(tmp_path: Path) -> None:
    """Matched by place alone, images of one set would be handed out as another's."""
    folder = write_folder(tmp_path / "a", full_sets(4, 10), slices=[(0, 5), (5, 25)])
    other = write_folder(tmp_path / "b", full_sets(4, 10, first=50), slices=[(0, 5), (5, 25)])
    manifests = [json.loads((place / "manifest.json").read_text()) for place in (folder, other)]
    manifests[0]["shards"][1] = manifests[1]["shards"][1]
    (folder / "manifest.json").write_text(json.dumps(manifests[0]))
    for suffix in ("tar", "json"):
        name = f"shard-000000-005-025.{suffix}"
        (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ShardError, match=r"005-025\.tar' holds the set 'set050', which .*000-005\.tar' does not"):
        ImageSetDataset(folder)[0]


def test_a_slice_with_more_sets_than_the_first_is_named(tmp_path: Path) -> None:
    """Numbered by the first slice, the sets that it lacks would never be read."""
    folder = tmp_path / "shards"
    folder.mkdir()
    names = [write_shard(folder, 0, (0, 5), full_sets(3, 9)), write_shard(folder, 0, (5, 9), full_sets(4, 9))]
    write_toy_manifest(folder, names)
    with pytest.raises(ShardError, match="shard-000000-005-009' has 4 sets, 'shard-000000-000-005' only 3"):
        ImageSetDataset(folder)
