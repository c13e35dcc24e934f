"""The tar that shards are: the same bytes everywhere, and nothing else passes for one."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from m2m.data.shards import (
    TRAILER,
    ShardError,
    entry_bytes,
    image_number,
    image_suffix,
    record_of,
    scan,
    shard_name,
    split_name,
)
from m2m.data.shards.tar import _header, entries_of
from tests.data.shards.making import foreign_tar, one_set

HOSTILE = [
    "/etc/passwd",
    "../escape.json",
    "a/../../b.json",
    "folder/a.000.webp",
    "a.000.webp/",
    ".json",
    "",
    "a",
    "..json",
]
UNKNOWN = [
    "a.pkl",
    "a.pyd",
    "a.pth",
    "a.py",
    "a.000.webp.pkl",
    "a.pickle",
    "a.000.gif",
    "a.0.webp",
    "a.JSON",
    "a b.json",
]


def shard_of(path: Path, *entries: tuple[str, bytes]) -> Path:
    path.write_bytes(b"".join(entry_bytes(*entry) for entry in entries) + TRAILER)
    return path


def refused(path: Path) -> str:
    """The one line about a file that is no shard."""
    with pytest.raises(ShardError) as caught:
        list(scan(path))
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and message.isprintable()
    return message


def test_bytes_are_these_everywhere() -> None:
    """A shard is made again on another machine and must have the same sha256: no time, owner or version may get in."""
    # GNU tar gives this digest too: tar --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@0 -b1
    made = entry_bytes("ab12.000.webp", b"payload") + entry_bytes("ab12.json", bytes(1024)) + TRAILER
    assert len(made) == 512 * 7
    assert hashlib.sha256(made).hexdigest() == "dac134ce1465150a9b902918e68c6d93353c5f43528f43dde3604f5318207d11"


def test_other_programs_read_it(tmp_path: Path) -> None:
    """A header that only our own reader understands would shut out everybody else's tools."""
    path = shard_of(tmp_path / "x.tar", *one_set(1), *one_set(2))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        read = [(member.name, tar.extractfile(member).read()) for member in members]
    assert read == [*one_set(1), *one_set(2)]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isreg()) for m in members} == {
        (0, 0, 0, "", "", 0o644, True)
    }
    assert path.stat().st_size == members[-1].offset_data + 512 + len(TRAILER)


def test_scan_finds_every_entry_where_it_is(tmp_path: Path) -> None:
    """An offset that is off by a header gives pictures with a header's bytes in front."""
    entries = [*one_set(1), ("e.000.png", b""), ("e.json", bytes(512))]
    content = shard_of(tmp_path / "x.tar", *entries).read_bytes()
    found = [(member.name, content[member.offset : member.offset + member.size]) for member in scan(tmp_path / "x.tar")]
    assert found == entries


@pytest.mark.parametrize("name", HOSTILE + UNKNOWN)
def test_names_that_no_shard_holds_are_refused(tmp_path: Path, name: str) -> None:
    """A name that leads out of the folder, or a payload that some library would unpickle."""
    with pytest.raises(ShardError):
        entry_bytes(name, b"x")
    info = tarfile.TarInfo()
    info.name = name
    assert repr(name) in refused(foreign_tar(tmp_path / "x.tar", [(info, b"x")]))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.DIRTYPE, "folder"),
        (tarfile.CONTTYPE, "header that no shard has"),
        (tarfile.AREGTYPE, "header that no shard has"),
    ],
)
def test_only_plain_files_pass(tmp_path: Path, kind: bytes, said: str) -> None:
    """A link with an allowed name, followed, reads or writes any file of the machine."""
    info = tarfile.TarInfo("ab.json")
    info.type, info.linkname = kind, "/etc/passwd"
    message = refused(foreign_tar(tmp_path / "x.tar", [(info, b"")]))
    assert "'ab.json" in message and said in message


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_headers_that_rename_are_refused(tmp_path: Path, tar_format: int) -> None:
    """A pax path or GNU long name gives the harmless entry after it another name."""
    info = tarfile.TarInfo("../" * 40 + "etc/passwd.json")
    message = refused(foreign_tar(tmp_path / "x.tar", [(info, b"x")], tar_format))
    assert "which can rename" in message


def test_a_ustar_prefix_is_refused(tmp_path: Path) -> None:
    """The name 'a.json' with the prefix '/etc' is '/etc/a.json' to every tar program."""
    info = tarfile.TarInfo("/etc/" + "x" * 100 + "/ab.json")
    assert "'ab.json'" in refused(foreign_tar(tmp_path / "x.tar", [(info, b"x")]))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """The second entry of a name silently replaces the first one."""
    path = shard_of(tmp_path / "x.tar", ("a.000.png", b"1"), ("a.000.png", b"2"), ("a.json", b"{}"))
    assert "'a.000.png' comes twice" in refused(path)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """An entry's name with escape codes would rewrite what the user sees."""
    info = tarfile.TarInfo("a\x1b[2J\nm2m: all is well.json")
    assert "\\x1b" in refused(foreign_tar(tmp_path / "x.tar", [(info, b"x")]))


def test_every_flip_in_a_header_is_found() -> None:
    """Python's tarfile takes most damaged headers for the end of the archive and drops all that follows."""
    first, rest = entry_bytes(*one_set(1)[0]), b"".join(entry_bytes(*entry) for entry in one_set(1)[1:])
    whole = first + rest + TRAILER
    assert len(list(entries_of(io.BytesIO(whole), "x"))) == len(one_set(1))
    for byte in range(len(first), len(first) + 512):
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << byte % 8
        with pytest.raises(ShardError, match=f"byte {len(first)}"):
            list(entries_of(io.BytesIO(damaged), "x"))


def test_garbage_between_and_behind_is_found(tmp_path: Path) -> None:
    """Bytes that no entry claims can hide a second archive, or tell of a write that went astray."""
    path = shard_of(tmp_path / "x.tar", ("a.json", b"{}"))
    whole = path.read_bytes()
    for content in (
        whole + b"\0",
        whole + bytes(8192),
        whole[:-1],
        whole[:-512],
        whole[:-1024],
        b"",
        TRAILER[:-1],
        whole[:1000] + b"x" + whole[1001:],
        whole[:-1024] + bytes(512) + TRAILER,
        whole[:-1] + b"\1",
    ):
        path.write_bytes(content)
        refused(path)


def test_a_size_beyond_the_file_is_found(tmp_path: Path) -> None:
    """A header that claims more bytes than there are takes the entries after it for its payload."""
    path = tmp_path / "x.tar"
    path.write_bytes(entry_bytes("a.json", bytes(2048))[:1024] + TRAILER)
    assert "'a.json' reaches beyond the end" in refused(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Opening a pipe for reading waits for a writer, for ever."""
    os.mkfifo(tmp_path / "pipe.tar")
    assert "no regular file" in refused(tmp_path / "pipe.tar")
    assert "no regular file" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "missing.tar")


def test_too_large_a_set_is_refused(tmp_path: Path) -> None:
    """Linux reads 2 GiB at most in one call, so a larger set would look damaged; and a file of zeros costs nothing."""

    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 31

    with pytest.raises(ShardError, match="2 GiB"):
        entry_bytes("a.json", Huge())
    half = 1 << 30
    with open(tmp_path / "x.tar", "wb") as file:  # sparse: takes no room on the disk
        for name in ("a.000.png", "a.001.png"):
            file.write(_header(name, half))
            file.seek(half, 1)
        file.write(entry_bytes("a.json", b"{}") + TRAILER)
    with pytest.raises(ShardError, match="'a' is larger than 2 GiB"):
        record_of(tmp_path / "x.tar", "shard-000000-000-002")


def test_names_of_shards_and_images_go_both_ways() -> None:
    """A name that does not lead back to its numbers ('shard-12-0-5') gives one shard two names."""
    assert shard_name(12, (0, 25)) == "shard-000012-000-025"
    assert split_name("shard-1234567-005-1025") == (1234567, (5, 1025))
    assert image_suffix(7, "webp") == "007.webp" and image_number("1007.webp") == 1007
    assert image_number("0007.webp") is None and image_number("json") is None
    for name in (
        "shard-12-0-5",
        "shard-000012-005-005",
        "shard-0000012-000-005",
        "shard-000012-000-005\n",
        "shard-٠٠٠٠٠٠-000-005",
    ):
        with pytest.raises(ShardError):
            split_name(name)
    for wrong in ((-1, (0, 5)), (0, (5, 5)), (0, (-1, 5)), (10**9, (0, 5))):
        with pytest.raises(ShardError):
            shard_name(*wrong)
    with pytest.raises(ShardError):
        image_suffix(1, "gif")
