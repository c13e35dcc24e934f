"""The reader: a damaged or hostile shard is an error that names it, never a set that is missing or another."""

from __future__ import annotations

import hashlib
import os
import pickle  # noqa: TID251  to make the file that must never be loaded
import random
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.checkpoint import sha256_of_files
from m2m.data.shards import TRAILER, SampleRecord, ShardError, ShardReader, ShardRecord, entry_bytes, scan, shard_path
from tests.data.shards.making import IMAGES, NAME, complete, files_in, foreign_tar, one_set, units_of

SETS = 6


@pytest.fixture
def record(tmp_path: Path) -> ShardRecord:
    return complete(tmp_path, units_of(SETS))


def expected(number: int) -> dict[str, bytes]:
    return {name.partition(".")[2]: payload for name, payload in one_set(number)}


def read_all(path: Path, record: ShardRecord) -> list[dict[str, bytes]]:
    """All sets; whatever comes out before an error must be right."""
    read = []
    with ShardReader(path, record) as reader:
        for number in range(len(reader)):
            read.append(reader.read(number))
            assert read[-1] == expected(number)
    return read


def refused(path: Path, record: ShardRecord) -> str:
    with pytest.raises(ShardError) as caught, ShardReader(path, record) as reader:
        for number in range(len(reader)):
            reader.read(number)
    message = str(caught.value)
    assert str(path) in message and message.isprintable()
    return message


def test_reads_every_set(tmp_path: Path, record: ShardRecord) -> None:
    """Entries of a neighbour, or one byte of padding too much, in a set."""
    read = read_all(shard_path(tmp_path, NAME), record)
    assert len(read) == SETS
    assert list(read[2]) == ["000.webp", "001.webp", "002.webp", "json"]


def test_threads_share_one_reader(tmp_path: Path, record: ShardRecord) -> None:
    """A position that threads share makes one read what another one sought."""
    with ShardReader(shard_path(tmp_path, NAME), record) as reader, ThreadPoolExecutor(4) as pool:
        order = [number % SETS for number in range(240)]
        assert list(pool.map(reader.read, order)) == [expected(number) for number in order]


def damages(content: bytes, headers: list[int]) -> list[tuple[str, bytes]]:
    """100 truncations, 100 flipped bits anywhere, 100 flipped bits in headers."""
    drawn = random.Random(7)
    cuts = [("cut", content[:size]) for size in drawn.sample(range(len(content)), 100)]
    anywhere = drawn.sample(range(len(content)), 100)
    in_headers = [drawn.choice(headers) + drawn.randrange(512) for _ in range(100)]
    flips = []
    for kind, places in (("flip", anywhere), ("header", in_headers)):
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1 << drawn.randrange(8)
            flips.append((kind, bytes(changed)))
    return [*cuts, *flips]


def test_300_damages_are_300_errors(tmp_path: Path, record: ShardRecord) -> None:
    """Plain webdataset loses samples without a word: its tar reader takes a damaged header for the end of the file."""
    path = shard_path(tmp_path, NAME)
    found = {"cut": 0, "flip": 0, "header": 0}
    for kind, content in damages(path.read_bytes(), [member.start for member in scan(path)]):
        path.write_bytes(content)
        with pytest.raises(ShardError, match=NAME):
            read_all(path, record)
        found[kind] += 1
        assert sha256_of_files([path]) != record.sha256
    assert found == {"cut": 100, "flip": 100, "header": 100}


def test_damage_names_the_set_and_spares_the_others(tmp_path: Path, record: ShardRecord) -> None:
    """An error that does not say which set is lost cannot be acted on; the sets around it can still be read."""
    path = shard_path(tmp_path, NAME)
    content = bytearray(path.read_bytes())
    content[record.samples[3].offset + 515] ^= 1
    path.write_bytes(bytes(content))
    with ShardReader(path, record) as reader:
        with pytest.raises(ShardError, match="set '0003-set'.* damaged"):
            reader.read(3)
        assert [reader.read(number) for number in (2, 4)] == [expected(2), expected(4)]


def test_a_file_that_shrinks_while_it_is_open_is_noticed(tmp_path: Path, record: ShardRecord) -> None:
    """The size is compared at opening; a short read later must not pass for a short set."""
    path = shard_path(tmp_path, NAME)
    with ShardReader(path, record) as reader:
        os.truncate(path, record.samples[2].offset + 100)
        assert reader.read(1) == expected(1)
        for number in (2, 3):
            with pytest.raises(ShardError, match="damaged"):
                reader.read(number)


def test_a_record_of_other_bytes_is_refused(tmp_path: Path, record: ShardRecord) -> None:
    """A record that states true digests at wrong places, or gives a set another's key."""
    path = shard_path(tmp_path, NAME)
    first, second = record.samples[:2]
    swapped = replace(
        record, samples=(replace(first, key=second.key), replace(second, key=first.key), *record.samples[2:])
    )
    assert f"hold \"['{first.key}']\" instead" in refused(path, swapped)
    merged = replace(first, length=first.length + second.length)
    raw = path.read_bytes()[: merged.length]
    merged = replace(merged, sha256=hashlib.sha256(raw).hexdigest())
    assert "instead" in refused(path, replace(record, count=SETS - 1, samples=(merged, *record.samples[2:])))
    # Half a set with the digest of that half, the other half claimed by a set that is not there.
    half, rest = entry_bytes(*one_set(0)[0]), path.read_bytes()[len(entry_bytes(*one_set(0)[0])) : first.length]
    parts = (
        SampleRecord(first.key, 0, len(half), hashlib.sha256(half).hexdigest()),
        SampleRecord("other", len(half), len(rest), hashlib.sha256(rest).hexdigest()),
    )
    assert "does not end with" in refused(path, replace(record, count=SETS + 1, samples=(*parts, *record.samples[1:])))


def record_for(path: Path, images: tuple[int, int] = IMAGES) -> ShardRecord:
    """A record whose digests fit: whoever makes a hostile tar makes its record too."""
    content = path.read_bytes()
    body = content[: -len(TRAILER)]
    sample = SampleRecord("ab", 0, len(body), hashlib.sha256(body).hexdigest())
    return ShardRecord(NAME, 0, images, 1, len(content), hashlib.sha256(content).hexdigest(), (sample,))


def info_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


class Trap:
    """Whoever unpickles this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("info", "tar_format", "named"),
    [
        (info_of("/tmp/evil.json"), tarfile.USTAR_FORMAT, "/tmp/evil.json"),
        (info_of("../evil.json"), tarfile.USTAR_FORMAT, "../evil.json"),
        (info_of("ab/../../evil.json"), tarfile.USTAR_FORMAT, "ab/../../evil.json"),
        (info_of("ab.000.webp", tarfile.SYMTYPE, "/etc/passwd"), tarfile.USTAR_FORMAT, "symbolic link"),
        (info_of("ab.000.webp", tarfile.LNKTYPE, "../../evil"), tarfile.USTAR_FORMAT, "hard link"),
        (info_of("ab.000.webp", tarfile.CHRTYPE), tarfile.USTAR_FORMAT, "device"),
        (info_of("ab." + "../" * 60 + "evil"), tarfile.PAX_FORMAT, "pax header"),
        (info_of("ab." + "../" * 60 + "evil"), tarfile.GNU_FORMAT, "GNU header"),
        (info_of("ab.pkl"), tarfile.USTAR_FORMAT, "ab.pkl"),
        (info_of("ab.pyd"), tarfile.USTAR_FORMAT, "ab.pyd"),
        (info_of("ab.pth"), tarfile.USTAR_FORMAT, "ab.pth"),
    ],
)
def test_hostile_entries_are_named_and_do_nothing(
    tmp_path: Path, info: tarfile.TarInfo, tar_format: int, named: str
) -> None:
    """Extracting writes outside of the folder, a link reads any file, a pickle runs any program."""
    payload = b"" if info.type != tarfile.REGTYPE else pickle.dumps(Trap(tmp_path / "trapped"))
    entries = [(info, payload), (info_of("ab.json"), b"{}")]
    (tmp_path / "in").mkdir()
    path = foreign_tar(tmp_path / "in" / "x.tar", entries, tar_format)
    before = files_in(tmp_path / "in")
    assert named in refused(path, record_for(path))
    assert [child.name for child in tmp_path.iterdir()] == ["in"] and files_in(tmp_path / "in") == before
    assert not Path("/tmp/evil.json").exists()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ab.json", "ab.json"], "'ab.json' comes twice"),
        (["ab.000.webp", "ab.000.webp", "ab.json"], "'ab.000.webp' comes twice"),
        (["ab.009.webp", "ab.json"], "'ab.009.webp' is none of the images 0:3"),
        (["cd.000.webp", "ab.json"], "does not end with 'cd.json'"),
        (["cd.000.webp", "cd.json", "ab.json"], "instead"),
        (["cd.json"], "instead"),
        (["ab.json", "ab.000.webp"], "does not end with 'ab.json'"),
    ],
)
def test_sets_that_are_put_together_wrongly_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    """Of two entries with one name the last wins; a set smuggled in behind another's record is read under its key."""
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(entry_bytes(name, b"{}") for name in names) + TRAILER)
    assert said in refused(path, record_for(path))


def test_what_is_no_file_is_not_opened(tmp_path: Path, record: ShardRecord) -> None:
    """A named pipe under a shard's name would hang every reader."""
    os.mkfifo(tmp_path / "pipe.tar")
    assert "no regular file" in refused(tmp_path / "pipe.tar", record)
    assert "does not exist" in refused(tmp_path / "missing.tar", record)


def test_plain_webdataset_reads_our_shards(tmp_path: Path, record: ShardRecord) -> None:
    """The format is WebDataset's: keys and suffixes must come out there as they went in."""
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset(str(shard_path(tmp_path, NAME)), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{number:04x}-set" for number in range(SETS)]
    for number, sample in enumerate(samples):
        assert {suffix: sample[suffix] for suffix in expected(number)} == expected(number)


def test_reader_needs_no_more_than_one_set_in_memory(tmp_path: Path) -> None:
    """A reader that holds the whole shard holds gigabytes, in each worker."""
    units = [[(f"{number:04d}.json", bytes(1 << 20))] for number in range(20)]
    record = complete(tmp_path, units)
    tracemalloc.start()
    with ShardReader(shard_path(tmp_path, NAME), record) as reader:
        assert all(len(reader.read(number)["json"]) == 1 << 20 for number in range(20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
