"""The writer: whatever happens on the way, the finished files are those of a run that nothing disturbed."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from m2m.data.shards import ShardError, ShardWriter, forget_shard, is_finished, record_path, shard_path
from tests.data.shards.making import (
    IMAGES,
    NAME,
    Entries,
    committed,
    complete,
    files_in,
    flip,
    lay,
    one_set,
    open_writer,
    units_of,
)

PART, JOURNAL, TAR, RECORD = f"{NAME}.tar.part", f"{NAME}.journal", f"{NAME}.tar", f"{NAME}.json"
UNITS = units_of()


def begin(folder: Path, count: int) -> dict[str, bytes]:
    """The files of a shard of which `count` units are written."""
    with open_writer(folder, UNITS) as writer:
        for unit in UNITS[writer.committed : count]:
            writer.append(unit)
    return files_in(folder)


def ends(journal: bytes) -> list[int]:
    """The byte where each unit ends."""
    return [json.loads(line)["end"] for line in journal.splitlines()[1:]]


def test_finished_files(undisturbed: dict[str, bytes]) -> None:
    """A journal or part file that stays makes every later run look at the shard again."""
    assert sorted(undisturbed) == sorted([TAR, RECORD])


@pytest.mark.parametrize("count", range(len(UNITS) + 1))
def test_resumes_after_every_unit(folder: Path, undisturbed: dict[str, bytes], count: int) -> None:
    """A unit written twice, or left out, at the place of the interruption."""
    begin(folder, count)
    assert not is_finished(folder, NAME) and committed(folder) == count
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed and is_finished(folder, NAME)


def test_a_part_file_cut_anywhere_keeps_the_whole_units(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """After a loss of power the file may be shorter than the journal says."""
    files = begin(folder, 5)
    bounds = ends(files[JOURNAL])
    for cut in [0, 1, *bounds, *(end - 1 for end in bounds), *(end + 1 for end in bounds[:-1])]:
        lay(folder, {**files, PART: files[PART][:cut]})
        assert committed(folder) == sum(end <= cut for end in bounds)
        complete(folder, UNITS)
        assert files_in(folder) == undisturbed


def test_a_flipped_byte_in_the_part_file_is_written_anew(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Trusting the length alone would seal damaged bytes into the shard, with a digest that says they are right."""
    files = begin(folder, 5)
    for unit, end in enumerate(ends(files[JOURNAL])):
        lay(folder, files)
        flip(folder / PART, end - 1)
        assert committed(folder) == unit
        complete(folder, UNITS)
        assert files_in(folder) == undisturbed


def test_a_damaged_journal_counts_up_to_its_last_good_line(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Half a line is what a kill in the middle of a write leaves; a line after it would be glued to it."""
    files = begin(folder, 3)
    lines = files[JOURNAL].splitlines(keepends=True)
    journals = {
        b"".join(lines)[:-1]: 2,
        b"".join(lines)[:-30]: 2,
        b"".join([*lines, b'{"unit": 3, "e']): 3,
        b"".join([*lines, b"\0" * 40]): 3,
        b"".join([*lines, lines[-1]]): 3,
        b"".join([lines[0], lines[1], b"garbage\n", lines[2]]): 1,
        b"".join([lines[0], lines[2], lines[3]]): 0,
        b"".join([lines[0], b'{"unit": 0, "end": "x", "sha256": ""}\n']): 0,
        b"".join([lines[0], b"[" * 100_000 + b"\n"]): 0,
        lines[0][:7]: 0,
        b"": 0,
    }
    for journal, count in journals.items():
        lay(folder, {**files, JOURNAL: journal})
        assert committed(folder) == count
        complete(folder, UNITS)
        assert files_in(folder) == undisturbed


def test_a_journal_of_other_units_is_not_continued(folder: Path) -> None:
    """With another number of units the boundaries lie elsewhere; continuing would leave sets out or double them."""
    begin(folder, 3)
    one = [[entry for unit in UNITS for entry in unit]]
    with open_writer(folder, one) as writer:
        assert writer.committed == 0
        writer.append(one[0])
        writer.finish()


def test_killed_between_the_last_steps(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Each of these states is what a kill leaves: the tar without record was once made again from nothing, or worse,
    the shard without journal's removal was taken for unfinished for ever."""
    journal = begin(folder, len(UNITS))[JOURNAL]
    tar, record = undisturbed[TAR], undisturbed[RECORD]
    staged = f".{RECORD}.0123abcd.partial"
    for files in (
        {PART: tar, JOURNAL: journal},
        {PART: tar[:-100], JOURNAL: journal},
        {TAR: tar, JOURNAL: journal},
        {TAR: tar, JOURNAL: journal, staged: record[:50]},
        {TAR: tar, JOURNAL: journal, RECORD: record},
    ):
        lay(folder, files)
        assert not is_finished(folder, NAME)
        with open_writer(folder, UNITS) as writer:
            assert writer.committed == len(UNITS)
            writer.finish()
        assert files_in(folder) == undisturbed


def test_files_that_nobody_vouches_for_are_made_anew(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """A tar without record and journal, or of another size than its record states, may hold anything."""
    tar, record = undisturbed[TAR], undisturbed[RECORD]
    for files in (
        {TAR: tar},
        {PART: tar},
        {PART: tar + tar},
        {RECORD: record},
        {TAR: tar[:-1], RECORD: record},
        {TAR: tar, RECORD: record[:-30]},
        {TAR: tar, RECORD: b"{}"},
    ):
        lay(folder, files)
        assert not is_finished(folder, NAME)
        assert committed(folder) == 0
        assert not (folder / RECORD).exists()
        complete(folder, UNITS)
        assert files_in(folder) == undisturbed


def test_a_repair_that_was_cut_off_goes_on(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """While a shard is made again its damaged file is still there; it must not take the place of the new part."""
    files = begin(folder, 4)
    lay(folder, {**files, TAR: bytes(len(undisturbed[TAR]))})
    assert committed(folder) == 4
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed


def test_a_finished_shard_is_left_alone(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """A process that comes to a shard which another one just finished would make it a second time."""
    record = complete(folder, UNITS)
    with open_writer(folder, UNITS) as writer:
        assert writer.committed == len(UNITS)
        assert writer.finish() == record
        assert writer.finish() == record
    assert files_in(folder) == undisturbed


def test_closing_twice_leaves_the_next_one_alone(folder: Path) -> None:
    """A `with` closes what `finish` closed already: it must not remove the journal of who came in between."""
    with open_writer(folder, UNITS) as first:
        for unit in UNITS:
            first.append(unit)
        first.finish()
        forget_shard(folder, NAME)
        second = open_writer(folder, UNITS)
        second.append(UNITS[0])
    assert (folder / JOURNAL).exists()
    second.close()
    assert committed(folder) == 1


def test_a_forgotten_shard_is_made_over_the_old_file(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """A shard of the right size with a flipped byte counts as finished; repair must be able to say that it is not."""
    complete(folder, UNITS)
    flip(folder / TAR, 700)
    assert is_finished(folder, NAME)
    forget_shard(folder, NAME)
    assert not is_finished(folder, NAME) and sorted(files_in(folder)) == [TAR]
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a write is cut short, or fails, as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_full_disk_loses_one_unit(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Half a unit that stays in the file would stand before the next try's bytes."""
    size = len(undisturbed[TAR])
    with file_size_limit(10), pytest.raises(OSError):
        open_writer(folder, UNITS)
    with open_writer(folder, UNITS) as writer:  # which the failed one must not hold any longer
        with file_size_limit(size // 2), pytest.raises(OSError):
            for unit in UNITS:
                writer.append(unit)
        done = writer.committed
        assert 0 < done < len(UNITS)
        writer.append(UNITS[done])
    assert committed(folder) == done + 1
    with file_size_limit(size - 1), pytest.raises(OSError):
        complete(folder, UNITS)
    assert committed(folder) == len(UNITS) and not (folder / TAR).exists()
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed


@pytest.mark.parametrize("name", [PART, JOURNAL])
def test_a_link_in_the_folder_is_not_written_through(folder: Path, tmp_path: Path, name: str) -> None:
    """Repairing a folder from elsewhere, with a link under the name of a part file, would overwrite any file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / name).symlink_to(victim)
    with pytest.raises(ShardError, match="is a link"):
        open_writer(folder, UNITS)
    assert victim.read_text() == "precious"


def test_a_linked_shard_is_replaced_not_followed(folder: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """The same for the finished names: a rename puts the new file in the link's place."""
    for name in (TAR, RECORD):
        (tmp_path / name).write_text("precious")
        (folder / name).symlink_to(tmp_path / name)
    complete(folder, UNITS)
    assert files_in(folder) == undisturbed
    assert (tmp_path / TAR).read_text() == (tmp_path / RECORD).read_text() == "precious"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (one_set(1)[:-1], "does not end with '0001-set.json'"),
        ([*one_set(1), *one_set(2), *one_set(1)], "comes twice"),
        ([*one_set(1), *one_set(2), ("0001-set.latents.npy", b""), ("0001-set.json", b"")], "comes twice"),
        ([*one_set(1), *one_set(2), ("0001-set.features.npy", b"")], "are not together"),
        (one_set(1, images=(2, 4)), "none of the images 0:3"),
        ([*one_set(1), *one_set(2)[-1:], *one_set(2)[:-1]], "does not end with '0002-set.json'"),
    ],
)
def test_entries_that_are_no_sets_are_never_finished(folder: Path, entries: Entries, said: str) -> None:
    """A set that is torn apart, or lacks its description, would be read as two sets, or as one without its caption."""
    with open_writer(folder, [entries]) as writer:
        writer.append(entries)
        with pytest.raises(ShardError, match=said):
            writer.finish()
    assert not (folder / TAR).exists() and not (folder / RECORD).exists()


def test_bytes_that_change_under_the_writer_are_not_sealed(folder: Path) -> None:
    """Another program, or a failing disk, changes the file after its unit was committed."""
    with open_writer(folder, UNITS) as writer:
        for unit in UNITS:
            writer.append(unit)
        flip(folder / PART, 600)
        with pytest.raises(ShardError, match="unit 0 is not as it was written"):
            writer.finish()
    assert committed(folder) == 0


def test_units_may_be_empty_and_shards_too(folder: Path) -> None:
    """Every image of a batch may have been rejected, and every set of a slice be shorter than where it begins."""
    units: list[Entries] = [[], one_set(1), []]
    begun = files_in(folder)
    record = complete(folder, units)
    assert (begun, record.count) == ({}, 1)
    empty = "shard-000001-003-005"
    with ShardWriter.open(folder, empty, 1, (3, 5), 1) as writer:
        writer.append([])
        assert (writer.finish().count, shard_path(folder, empty).read_bytes()) == (0, bytes(1024))
    assert record_path(folder, empty).exists() and is_finished(folder, empty)


def test_misuse_is_an_error(folder: Path) -> None:
    """A writer that takes one unit more or less than agreed gives a shard that no other run gives."""
    with pytest.raises(ShardError):
        ShardWriter.open(folder, NAME, 1, IMAGES, 1)
    with open_writer(folder, UNITS[:2]) as writer:
        writer.append(UNITS[0])
        with pytest.raises(ValueError, match="1 of its 2 units"):
            writer.finish()
        with pytest.raises(ShardError, match="'x.pkl'"):
            writer.append([("x.pkl", b"")])
        writer.append(UNITS[1])
        with pytest.raises(ValueError, match="already"):
            writer.append(UNITS[2])
