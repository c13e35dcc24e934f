"""What may be wrong with a folder of shards is found, named, and told apart from what is right."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import read_json, write_json
from m2m.data.factory.build import build
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.verify import Finding, verify
from m2m.data.shards import (
    Manifest,
    ShardWriter,
    manifest_entry,
    record_of,
    scan,
    shard_name,
    write_manifest,
    write_record,
)
from m2m.types import UserError
from tests.data.factory.making import captions_folder, world_recipe
from tests.data.shards.making import flip, picture

FIRST, SECOND = "shard-000000-000-002", "shard-000001-002-005"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 sets in shards of 3 and 2, images 0:2 and 2:5 in shards of their own: 4 shards."""
    place = tmp_path_factory.mktemp("verify")
    source = open_source(world_recipe(captions_folder(place / "captions", count=5)))
    for images in ((0, 2), (2, 5)):
        build(source, BuildSettings(out=place / "shards", images=images, sets_per_shard=3))
    return place / "shards"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def tar(folder: Path, name: str = FIRST) -> Path:
    return folder / f"{name}.tar"


def keys(folder: Path, name: str = FIRST) -> list[str]:
    return [sample["key"] for sample in read_json(folder / f"{name}.json")["samples"]]


def found(folder: Path) -> list[Finding]:
    return verify(folder).findings


def test_a_whole_folder_has_no_findings(whole: Path) -> None:
    """Sets that lie in two slices would be counted twice, and a cry of wolf makes everybody deaf."""
    report = verify(whole, workers=3)
    assert (report.findings, report.damaged) == ([], [])
    assert (report.shards, report.sets) == (4, 5)
    assert report.bytes == sum(path.stat().st_size for path in whole.glob("*.tar"))


def test_progress_counts_the_shards(whole: Path) -> None:
    """A line that stands still for hours looks like a hang."""
    steps: list[tuple[int, int]] = []
    verify(whole, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("decode", [True, False])
def test_one_flipped_bit_is_found_wherever_it_is(folder: Path, decode: bool) -> None:
    """tarfile takes a damaged header for the end and says nothing; a picture decodes with a flipped bit in it."""
    path = tar(folder, SECOND)
    members = list(scan(path))
    places = {members[1].start: 0, members[1].offset + 40: 0, members[4].start + 130: 1, members[4].end - 1: 1}
    for byte, number in places.items():
        flip(path, byte)
        report = verify(folder, decode)
        assert report.damaged == [SECOND]
        assert [finding.key for finding in report.findings] == ["", keys(folder, SECOND)[number]]
        flip(path, byte)
    flip(path, path.stat().st_size - 1)
    assert verify(folder, decode).damaged == [SECOND]


@pytest.mark.parametrize("length", [0, 100, 512, 5000])
def test_a_shard_that_is_cut_off_names_the_sets_that_are_lost(folder: Path, length: int) -> None:
    """Whether two sets or two thousand are gone decides what to do."""
    tar(folder).write_bytes(tar(folder).read_bytes()[:length])
    first, *lost = found(folder)
    assert first.name == FIRST and f"has {length:,} bytes" in first.problem
    assert [finding.key for finding in lost] == keys(folder)[-len(lost) :] and lost


def test_a_cut_at_the_border_of_sets_is_found(folder: Path) -> None:
    """A tar that lacks whole sets is a proper tar."""
    sample = read_json(folder / f"{FIRST}.json")["samples"][1]
    content = tar(folder).read_bytes()
    tar(folder).write_bytes(content[: sample["offset"]] + content[-1024:])
    assert verify(folder).damaged == [FIRST]


def test_missing_files_are_found(folder: Path) -> None:
    """A loop over the files that are there never sees what is not."""
    tar(folder, FIRST).unlink()
    (folder / f"{SECOND}.json").unlink()
    assert [(finding.name, finding.key) for finding in found(folder)] == [(FIRST, ""), (SECOND, "")]
    assert all("does not exist" in finding.problem for finding in found(folder))


def test_a_damaged_record_is_found_and_its_shard_still_checked(folder: Path) -> None:
    """Without the record's digests no set can be read, although every picture is there."""
    record = folder / f"{FIRST}.json"
    record.write_text(record.read_text().replace("a", "b", 1))
    assert [(finding.name, "record" in finding.problem) for finding in found(folder)] == [(FIRST, True)]
    flip(tar(folder), 700)
    assert len(found(folder)) == 2


def test_a_shard_exchanged_with_its_record_is_found(folder: Path) -> None:
    """A shard that fits its own record, from another build, is sound in itself; the manifest alone knows better."""
    content = bytearray(tar(folder).read_bytes())
    member = next(member for member in scan(tar(folder)) if member.name.endswith(".json"))
    content[member.offset : member.offset + member.size] = b" " * (member.size - 2) + b"{}"
    tar(folder).write_bytes(content)
    write_record(folder, record_of(tar(folder), FIRST))
    assert len(found(folder)) == 2 and verify(folder).damaged == [FIRST]


def test_no_more_than_ten_sets_of_a_shard_are_listed(tmp_path: Path) -> None:
    """A truncated shard of a thousand sets would bury all other findings."""
    name = toy_folder(tmp_path, [(f"set{i:02d}.000.webp", picture(i)) for i in range(14)])
    tar(tmp_path, name).write_bytes(b"")
    findings = found(tmp_path)
    assert len(findings) == 12 and findings[-1].problem == "and 4 more sets"


@pytest.mark.parametrize("kind", ["text", "half", "bomb"])
def test_a_picture_that_does_not_decode_is_found(tmp_path: Path, kind: str) -> None:
    """Digests are right where the damage happened before they were taken."""
    contents = {"text": b"no picture", "half": picture(1, 64)[:900], "bomb": bomb()}
    name = toy_folder(tmp_path, [("good.000.webp", picture(0)), ("bad.001.webp", contents[kind])])
    assert [(finding.name, finding.key) for finding in found(tmp_path)] == [(name, "bad")]
    assert "001.webp" in found(tmp_path)[0].problem
    assert verify(tmp_path, decode=False).findings == []


@pytest.mark.parametrize("broken", ["object", "short"])
def test_an_array_that_cannot_be_opened_is_found(tmp_path: Path, broken: str) -> None:
    """A pickled array would run code when it is loaded; a short one is missed by a look at the header."""
    stream = io.BytesIO()
    np.save(stream, np.array([{}]) if broken == "object" else np.zeros((2, 4), np.float16))
    content = stream.getvalue() if broken == "object" else stream.getvalue()[:-1]
    toy_folder(tmp_path, [("bad.latents.npy", content)])
    assert [finding.key for finding in found(tmp_path)] == ["bad"]


def test_shards_that_no_manifest_knows_are_found(folder: Path) -> None:
    """A glob of *.tar would train on them: a copy from elsewhere, an earlier try."""
    shutil.copy(tar(folder), folder / "copy of a shard.tar")
    for suffix in ("tar", "json"):
        shutil.copy(folder / f"{FIRST}.{suffix}", folder / f"shard-000009-000-002.{suffix}")
    (folder / "README.md").write_text("mine")
    (folder / "sheet.json").write_text("{}")
    names = {"copy of a shard.tar", "shard-000009-000-002.tar", "shard-000009-000-002.json"}
    assert {finding.name for finding in found(folder)} == names
    assert verify(folder).damaged == []


def test_leftovers_and_failures_are_found(folder: Path) -> None:
    """A shard that was set aside is missing from the data, with nobody to say why."""
    with ShardWriter.open(folder, "shard-000007-000-002", 7, (0, 2), units=2) as writer:
        writer.append([("key.000.webp", picture(0))])
    (folder / ".manifest.json.0123.partial").touch()
    (folder / "failed").mkdir()
    failure = {"name": "shard-000008-000-002", "attempts": 3, "error": "out of memory", "details": ""}
    write_json(folder / "failed" / "shard-000008-000-002.json", failure)
    problems = {finding.name: finding.problem for finding in found(folder)}
    assert problems.keys() == {
        "shard-000007-000-002.tar.part",
        "shard-000007-000-002.journal",
        ".manifest.json.0123.partial",
        "shard-000008-000-002",
    }
    assert problems["shard-000008-000-002"] == "was set aside after 3 attempts: out of memory"


def drop_a_shard(manifest: dict[str, object]) -> None:
    shards = manifest["shards"]
    assert isinstance(shards, list)
    shards.pop()


@pytest.mark.parametrize(
    "change",
    [
        drop_a_shard,
        lambda manifest: manifest.update(complete=False),
        lambda manifest: manifest["settings"].update(seed=9),
    ],
)
def test_a_manifest_that_is_not_of_the_whole_build_is_found(folder: Path, change: Callable[..., None]) -> None:
    """Checked against itself alone, a manifest that lost its last shards is in best order."""
    manifest = read_json(folder / "manifest.json")
    change(manifest)
    write_json(folder / "manifest.json", manifest)
    assert "manifest.json" in {finding.name for finding in found(folder)}


@pytest.mark.parametrize("content", [None, "{", '{"shards": []}'])
def test_without_a_manifest_the_records_stand_in(folder: Path, content: str | None) -> None:
    """A lost manifest must not end the look at terabytes of shards."""
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    assert [finding.name for finding in found(folder)] == ["manifest.json"]
    flip(tar(folder), 700)
    assert verify(folder).damaged == [FIRST]


def test_a_build_that_is_not_complete_is_found(folder: Path) -> None:
    """Training on a third of the data because a machine died would go unseen for weeks."""
    (folder / f"{SECOND}.json").unlink()
    (folder / f"{SECOND}.tar").unlink()
    manifest = read_json(folder / "manifest.json")
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["name"] != SECOND]
    write_json(folder / "manifest.json", {**manifest, "complete": False})
    (finding,) = found(folder)
    assert "3 of 4 shards" in finding.problem


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """ "No findings" about a mistyped path would be believed."""
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no folder of shards"):
            verify(place)


def toy_folder(folder: Path, entries: list[tuple[str, bytes]]) -> str:
    """A folder of one shard: a set for each entry."""
    name = shard_name(0, (0, 3))
    with ShardWriter.open(folder, name, 0, (0, 3), units=1) as writer:
        unit = []
        for entry, content in entries:
            unit += [(entry, content), (f"{entry.partition('.')[0]}.json", json.dumps({}).encode())]
        writer.append(unit)
        writer.finish()
    write_manifest(folder, Manifest({}, True, (manifest_entry(folder, name),)))
    return name


def bomb() -> bytes:
    """A WebP header of 16383 x 16383 pixels."""
    content = bytearray(picture(0))
    at = content.index(b"VP8L") + 9
    content[at : at + 4] = ((16382) | (16382 << 14)).to_bytes(4, "little")
    return bytes(content)
