"""Sub-folders of pictures as sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.data.pictures import read_picture, to_square
from m2m.data.real_sets import FolderOptions, FolderSets
from m2m.data.real_sets.files import natural
from m2m.types import UserError
from tests.data.real_sets.samples import album, save_photograph, truncate


def sets_of(folder: Path, **options: object) -> FolderSets:
    return FolderSets(FolderOptions(folder, **{"size": 16, **options}))  # type: ignore[arg-type]


def test_every_folder_with_pictures_is_a_set_in_natural_order(tmp_path: Path) -> None:
    """Sorted as text, "cat 10" comes before "cat 2", and a sequence of photographs is told in the wrong order."""
    sets = sets_of(album(tmp_path))
    plans = sets.sets(0, len(sets))
    assert [plan.meta["folder"] for plan in plans] == ["cats", "dogs/old"]
    assert [plan.images for plan in plans] == [12, 3]
    assert plans[0].meta["files"] == [f"cats/cat {number}.png" for number in range(1, 13)]
    assert plans[1].meta["files"] == ["dogs/old/0.jpg", "dogs/old/1.webp", "dogs/old/2.bmp"]
    assert sets.most_images == 12 and sets.pictures == 15
    assert sets.others == 1 and sets.refused == []


def test_natural_order() -> None:
    """Numbers within names, capitals, folders in folders, and other scripts' digits."""
    names = ["b/1", "a/10", "a/2", "A/3", "a/x10y2", "a/x10y1", "a", "\u0662"]
    assert sorted(names, key=natural) == ["\u0662", "a", "a/2", "A/3", "a/10", "a/x10y1", "a/x10y2", "b/1"]


def test_make_gives_the_picture_asked_for_square_at_its_size(tmp_path: Path) -> None:
    """Threads that give pictures back in the order in which they end would mix up the sets."""
    sets = sets_of(album(tmp_path))
    cats, dogs = sets.sets(0, 2)
    made = sets.make([(dogs, 2), (cats, 11), (cats, 0)])
    for picture, name in zip(made, ("dogs/old/2.bmp", "cats/cat 12.png", "cats/cat 1.png"), strict=True):
        assert picture is not None and picture.shape == (16, 16, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, np.asarray(to_square(read_picture(tmp_path / name), 16)))


def test_keys_follow_from_the_folder_alone(tmp_path: Path) -> None:
    """A key from the place in the list would name another set as soon as a folder is added before it."""
    before = sets_of(album(tmp_path)).sets(0, 2)
    save_photograph(tmp_path / "ants" / "1.png", seed=1)
    save_photograph(tmp_path / "ants" / "2.png", seed=2)
    after = sets_of(tmp_path).sets(0, 3)
    assert [plan.key for plan in after[1:]] == [plan.key for plan in before]
    assert len({plan.key for plan in after}) == 3


def test_settings_tell_every_change_of_the_pictures(tmp_path: Path) -> None:
    """Else yesterday's shards would be continued with today's pictures: changed, renamed, or of another size."""
    first = sets_of(album(tmp_path)).settings()
    assert first == sets_of(tmp_path).settings()
    assert str(tmp_path) not in str(first)
    path = tmp_path / "cats" / "cat 3.png"
    content = bytearray(path.read_bytes())
    save_photograph(path, seed=77)
    changed = sets_of(tmp_path).settings()
    path.write_bytes(content)
    path.rename(path.with_name("cat 3b.png"))
    renamed = sets_of(tmp_path).settings()
    other_size = sets_of(tmp_path, size=8).settings()
    hashes = {settings["content_sha256"] for settings in (first, changed, renamed)}
    assert len(hashes) == 3 and other_size != renamed


def test_broken_pictures_stop_the_run_by_name(tmp_path: Path) -> None:
    """Half a JPEG is half grey; it must neither be stored nor vanish without a word."""
    truncate(album(tmp_path) / "dogs" / "old" / "0.jpg")
    (tmp_path / "cats" / "cat 5.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 pictures cannot be used.*cat 5\.png' is empty.*0\.jpg'.*broken"):
        sets_of(tmp_path)


def test_broken_pictures_are_left_out_on_request(tmp_path: Path) -> None:
    """Those left out are named, and the numbers of the others close up."""
    truncate(album(tmp_path) / "cats" / "cat 2.png")
    sets = sets_of(tmp_path, skip_broken=True)
    assert [file.name for file in sets.refused] == ["cats/cat 2.png"]
    cats = sets.sets(0, 1)[0]
    assert cats.images == 11 and cats.meta["files"][:2] == ["cats/cat 1.png", "cats/cat 3.png"]


def test_a_picture_without_a_suffix_counts_and_a_text_does_not(tmp_path: Path) -> None:
    """Downloads are often named by a hash alone; the content says what a file is."""
    for number in range(3):
        save_photograph(tmp_path / "set" / f"{number}.png", seed=number).rename(tmp_path / "set" / f"hash{number}")
    (tmp_path / "set" / "readme").write_text("no picture")
    sets = sets_of(tmp_path)
    assert sets.sets(0, 1)[0].images == 3 and sets.others == 1


def test_few_and_many_pictures(tmp_path: Path) -> None:
    """A set of one teaches nothing; the largest folder must not decide how long every set is."""
    save_photograph(album(tmp_path) / "alone" / "1.png", seed=1)
    sets = sets_of(tmp_path, min_images=2, max_images=5)
    assert [plan.images for plan in sets.sets(0, 9)] == [5, 3] and sets.small == {"alone": 1}
    assert len(sets_of(tmp_path, min_images=4)) == 1


def test_the_folders_own_pictures_hidden_and_linked_folders_are_no_set(tmp_path: Path) -> None:
    """A link upwards would make the same pictures a set again and again."""
    album(tmp_path)
    save_photograph(tmp_path / "cover.png", seed=1)
    for number in range(2):
        save_photograph(tmp_path / ".trash" / f"{number}.png", seed=number)
    (tmp_path / "dogs" / "up").symlink_to(tmp_path)
    assert [plan.meta["folder"] for plan in sets_of(tmp_path).sets(0, 9)] == ["cats", "dogs/old"]


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """Old archives bring Latin-1 names, which cannot be stored as they are; two of them must stay two."""
    for name in (b"caf\xe9", b"caf\xe8"):
        folder = tmp_path / name.decode("utf-8", "surrogateescape")
        save_photograph(folder / "1.png", seed=1)
        save_photograph(folder / "2.png", seed=2)
    plans = sets_of(tmp_path).sets(0, 2)
    assert [plan.meta["folder"].encode() for plan in plans] == [b"caf\\xe8", b"caf\\xe9"]
    assert len({plan.key for plan in plans}) == 2


def test_a_picture_that_changes_later_is_refused(tmp_path: Path) -> None:
    """The shards' identity was taken from the old one."""
    sets = sets_of(album(tmp_path))
    save_photograph(tmp_path / "cats" / "cat 1.png", seed=5, width=100)
    with pytest.raises(UserError, match=r"cat 1\.png' has changed"):
        sets.make([(sets.sets(0, 1)[0], 0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_images": 99}, "no sub-folder with at least 99"),
        ({"min_images": 0}, "min-images is 0"),
        ({"min_images": 3, "max_images": 2}, "max-images is 2"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, int], message: str) -> None:
    """Each would else end in an empty folder of shards or an exception deep inside."""
    album(tmp_path)
    with pytest.raises(UserError, match=message):
        sets_of(tmp_path, **options)
    with pytest.raises(UserError, match="is no folder"):
        sets_of(tmp_path / "nowhere")
