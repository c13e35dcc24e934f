"""Reading image sets: every image where it belongs, and once an epoch over ranks, workers and resumes."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.image_set import ImageSet
from m2m.data.reading.order import Cursor, OrderConfig
from m2m.types import UserError
from tests.data.reading.loading import load, same, seen
from tests.data.reading.toy_shards import SIZE, full_sets, toy_picture, write_folder

# Three workers on a machine of two cores: about correctness, not speed.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SETS = 22


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 sets of 25 images in shards of 4, the first five images of each in a slice of their own."""
    return write_folder(tmp_path_factory.mktemp("toy") / "shards", full_sets(SETS, 25), slices=[(0, 5), (5, 25)])


def check_pictures(one: ImageSet) -> None:
    """The pictures are those of the key and the numbers."""
    assert one.images is not None
    assert np.array_equal(one.images, np.stack([toy_picture(one.key, number) for number in one.numbers]))


def test_slices_read_as_one_set(data: Path) -> None:
    """Images 0:5 and 5:25 lie in different shards; read apart, a set would come twice."""
    dataset = ImageSetDataset(data)
    assert len(dataset) == SETS
    for index in (0, 9, SETS - 1):
        one = dataset[index]
        assert sorted(one.numbers) == list(range(25))
        assert one.caption == f"caption of {one.key}" and one.key == f"set{index:03d}"
        check_pictures(one)
    with pytest.raises(IndexError):
        dataset[SETS]


def test_drawn_images_follow_from_seed_epoch_and_key(data: Path) -> None:
    """Drawn from a worker's generator, they would differ with the number of workers, and repeat every epoch."""
    dataset = ImageSetDataset(data, ReadConfig(images=5))
    again = ImageSetDataset(data, ReadConfig(images=5))
    again.visit(3, 9)  # what was read before changes nothing
    draws = {(index, epoch): dataset.visit(index, epoch).numbers for index in range(SETS) for epoch in range(3)}
    assert all(len(set(numbers)) == 5 for numbers in draws.values())
    assert len(set(draws.values())) > 60, "other images for every set and epoch"
    assert again.visit(4, 2).numbers == draws[4, 2]
    assert ImageSetDataset(data, ReadConfig(images=5, seed=1)).visit(4, 2).numbers != draws[4, 2]
    counts = Counter(number for numbers in draws.values() for number in numbers)
    assert set(counts) == set(range(25)), "every image has its turn"
    check_pictures(dataset.visit(4, 2))


def test_each_epoch_of_a_run_draws_its_own_images(data: Path) -> None:
    """With the epoch lost on the way to a worker, a run sees the same 5 of 25 images for ever."""
    dataset = ImageSetDataset(data, ReadConfig(images=5))
    read = seen(load(dataset, batches=11, batch_sets=4, workers=1))  # two epochs of 22 sets; one batch lies in both
    for place, (key, numbers) in enumerate(read):
        assert tuple(numbers) == dataset.visit(int(key[3:]), epoch=place // SETS).numbers


def test_images_come_in_the_order_drawn_or_by_number(data: Path) -> None:
    """Ordered sets must keep their order; exchangeable ones are shuffled."""
    drawn = ImageSetDataset(data, ReadConfig(images=5)).visit(3, 1)
    ordered = ImageSetDataset(data, ReadConfig(images=5, ordered=True)).visit(3, 1)
    assert drawn.numbers != ordered.numbers
    assert sorted(drawn.numbers) == list(ordered.numbers)
    check_pictures(ordered)


def test_within_leaves_other_slices_closed(data: Path, tmp_path: Path) -> None:
    """The paper trains on 5 of 25: the files of the other 20 need not be read, nor even be whole."""
    twin = tmp_path / "copy"
    twin.mkdir()
    for path in data.iterdir():
        content = path.read_bytes()
        (twin / path.name).write_bytes(b"damaged" if "005-025.tar" in path.name else content)
    dataset = ImageSetDataset(twin, ReadConfig(images=3, within=(0, 5)))
    assert {number for index in range(SETS) for number in dataset[index].numbers} == {0, 1, 2, 3, 4}
    later = ImageSetDataset(data, ReadConfig(within=(7, 9)))
    assert sorted(later[5].numbers) == [7, 8]
    check_pictures(later[5])


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_over_ranks_and_workers_reads_every_set_once(data: Path, ranks: int, workers: int) -> None:
    """Sharded twice or not at all, each worker reads everything, or some sets are read by nobody."""
    dataset = ImageSetDataset(data, ReadConfig(images=2, within=(0, 5)))
    shares = [load(dataset, workers=workers, rank=rank, ranks=ranks, epochs=1) for rank in range(ranks)]
    keys = [key for share in shares for key, _ in seen(share)]
    assert sorted(keys) == list(full_sets(SETS))


def test_workers_and_ranks_change_no_batch(data: Path) -> None:
    """Batches that come as workers finish, or that each rank shuffles for itself, make every run another one."""
    dataset = ImageSetDataset(data, ReadConfig(images=3))
    plain = load(dataset, batches=8)
    for workers in (1, 3):
        assert all(same(a, b) for a, b in zip(plain, load(dataset, 8, workers), strict=True))
    shares = [load(dataset, 8, workers=1, rank=rank, ranks=2) for rank in range(2)]
    for number, batch in enumerate(plain):
        for rank in range(2):
            share = shares[rank][number]
            assert share.keys == batch.keys[rank::2] and share.cursor == batch.cursor
            assert share.images is not None and batch.images is not None
            assert torch.equal(share.images, batch.images[rank::2])


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 3), (2, 1), (3, 0)])
def test_resume_in_the_middle_of_a_shard_is_exact(data: Path, ranks: int, workers: int) -> None:
    """A sampler's own state counts what was prefetched: the run would go on some batches too late.

    After four batches of 6 of 22 sets, the cursor lies at place 2 of epoch 1: within a shard of 4, and a block of 5.
    """
    dataset = ImageSetDataset(data, ReadConfig(images=3))
    whole = load(dataset, 9, shuffle=5)
    order = dataset.order(OrderConfig(batch_sets=6, shuffle=5))
    running = iter(DataLoader(dataset, sampler=order, batch_size=None, num_workers=3, prefetch_factor=4))
    last = [next(running) for _ in range(4)][-1]  # the workers have read far beyond
    saved = json.loads(json.dumps(last.cursor.as_json()))
    del running
    assert (saved["epoch"], saved["position"]) == (1, 2)
    fresh = ImageSetDataset(data, ReadConfig(images=3))
    start = Cursor.from_json(saved)
    shares = [load(fresh, 5, workers, start, shuffle=5, rank=rank, ranks=ranks) for rank in range(ranks)]
    for number, batch in enumerate(whole[4:]):
        parts = [seen([share[number]]) for share in shares]
        assert [parts[row % ranks][row // ranks] for row in range(6)] == seen([batch])
        assert all(share[number].cursor == batch.cursor for share in shares)


def test_a_spawned_copy_reads_the_same(data: Path) -> None:
    """Open files cannot travel to a worker process that is no fork."""
    dataset = ImageSetDataset(data, ReadConfig(images=3))
    before = dataset.visit(2, 1)
    twin = copy.deepcopy(dataset)  # by the same protocol as multiprocessing, which fails on an open file too
    assert twin.visit(2, 1).numbers == before.numbers


def test_a_cursor_of_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    """Grown or exchanged data gives the same position another meaning."""
    cursor = load(ImageSetDataset(data, ReadConfig(images=2)), 1)[0].cursor
    other = write_folder(tmp_path / "other", full_sets(SETS, 25, first=1), slices=[(0, 5), (5, 25)])
    with pytest.raises(UserError, match="another order"):
        ImageSetDataset(other).order(OrderConfig(batch_sets=6, shuffle=6), cursor)


def test_several_folders_read_as_one(data: Path, tmp_path: Path) -> None:
    """Numbered wrongly at the border of two folders, the last or first sets would be lost."""
    more = write_folder(tmp_path / "more", full_sets(6, 5, first=100))
    dataset = ImageSetDataset([data, more], ReadConfig(images=4))
    assert len(dataset) == SETS + 6
    keys = [key for key, _ in seen(load(dataset, epochs=1, workers=1))]
    assert sorted(keys) == [*full_sets(SETS), *full_sets(6, first=100)]
    check_pictures(dataset[SETS])


def test_the_same_shards_twice_are_refused(data: Path, tmp_path: Path) -> None:
    """A copy of a folder under another name would be read twice in an epoch."""
    twin = tmp_path / "copy"
    twin.mkdir()
    for path in data.iterdir():
        (twin / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="the same shard"):
        ImageSetDataset([data, twin])


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Sets with 8 images but for two: set002 has three, set005 none in the later slices and 4 in all."""
    sets = full_sets(9, 8)
    sets["set002"], sets["set005"] = [0, 3, 6], [0, 1, 2, 3]
    return write_folder(tmp_path / "uneven", sets, slices=[(0, 5), (5, 25)])


def test_a_set_with_too_few_images_is_named(uneven: Path) -> None:
    """Filled up with repeated images, or cut to fewer, it would not be noticed."""
    dataset = ImageSetDataset(uneven, ReadConfig(images=4))
    assert sorted(dataset[5].numbers) == [0, 1, 2, 3], "a set that a later slice leaves out is read from the first"
    with pytest.raises(UserError, match=r"shard-000000-000-005\.tar', set 'set002' has 3 images, 4 are wanted"):
        dataset[2]
    assert sorted(ImageSetDataset(uneven, ReadConfig(images=3))[2].numbers) == [0, 3, 6]


def test_sets_with_too_few_images_can_be_left_out(uneven: Path) -> None:
    """Left out within a batch they would make it smaller, and resume at another place than it stopped."""
    dataset = ImageSetDataset(uneven, ReadConfig(images=5, too_few="skip"))
    shares = [load(dataset, rank=rank, ranks=2, epochs=1, batch_sets=2, workers=1) for rank in range(2)]
    keys = [key for share in shares for key, _ in seen(share)]
    assert sorted(keys) == sorted(set(full_sets(9)) - {"set002", "set005"})
    whole = load(dataset, 6, batch_sets=4)
    assert {len(batch.keys) for batch in whole} == {4}
    resumed = load(dataset, 4, start=whole[1].cursor, batch_sets=4, workers=1)
    assert all(same(a, b) for a, b in zip(resumed, whole[2:], strict=True))
    with pytest.raises(UserError, match="all of the 9 sets are left out"):
        load(ImageSetDataset(uneven, ReadConfig(images=9, too_few="skip")), 1)


def test_pictures_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    """Stacking fails deep in numpy; or, worse, one picture is squeezed into another's shape."""
    folder = write_folder(tmp_path / "sizes", full_sets(3, 4), sizes={"set001": (12, 6)})
    dataset = ImageSetDataset(folder)
    check_pictures(dataset[0])
    with pytest.raises(UserError, match=r"set 'set001'.*several sizes, 8x8 and 12x6.*size=PIXELS"):
        dataset[1]
    resized = ImageSetDataset(folder, ReadConfig(size=6, ordered=True))[1]
    assert resized.images is not None and resized.images.shape == (4, 6, 6, 3)
    middle = toy_picture("set001", 3, (12, 6))[:, 3:9]
    assert np.array_equal(resized.images[3], middle), "the middle square, and no squeezing"
    whole = ImageSetDataset(folder, ReadConfig(size=SIZE))[0]
    check_pictures(whole)


def test_sets_that_do_not_stack_are_named(tmp_path: Path) -> None:
    """All images of sets of different length make no tensor; numpy's message names neither."""
    sets = full_sets(2, 4) | {"set002": [0, 1]}
    folder = write_folder(tmp_path / "lengths", sets)
    with pytest.raises(UserError, match=r"'set000' has images of shape \[4.*'set002' \[2.*images=N"):
        load(ImageSetDataset(folder), batch_sets=3, shuffle=0, epochs=1)


def test_an_unfinished_folder_is_read_with_a_warning(tmp_path: Path) -> None:
    """Training on half of the data should not go unnoticed, but it is the user's to decide."""
    folder = write_folder(tmp_path / "half", full_sets(4), complete=False)
    with pytest.warns(UserWarning, match="is not complete"):
        dataset = ImageSetDataset(folder)
    assert len(load(dataset, epochs=1)[0].keys) == 4


def test_a_url_reads_as_the_folder(data: Path, tmp_path: Path) -> None:
    """Over a URL the same sets must come in the same order, so that a run can move to another machine."""
    config = ReadConfig(images=3)
    remote = ImageSetDataset(f"file://{data}", config, cache_dir=tmp_path / "cache")
    local = load(ImageSetDataset(data, config), 6)
    assert all(same(a, b) for a, b in zip(local, load(remote, 6, workers=3), strict=True))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"images": 0}, "images is 0"),
        ({"within": (5, 5)}, "within"),
        ({"size": 0}, "size"),
        ({"too_few": "drop"}, "'skip'"),
    ],
)
def test_impossible_settings_are_named(config: dict[str, Any], said: str) -> None:
    """Drawing no image, or from an empty range, would end deep in numpy."""
    with pytest.raises(UserError, match=said):
        ReadConfig(**config)


def test_a_run_of_neighbours_follows_from_seed_epoch_and_key(data: Path) -> None:
    """Steps of a procedure that are skipped or turned round, or a start that is the first step for ever."""
    config = ReadConfig(images=5, consecutive=True)
    dataset, again = ImageSetDataset(data, config), ImageSetDataset(data, config)
    draws = {(index, epoch): dataset.visit(index, epoch).numbers for index in range(SETS) for epoch in range(20)}
    assert all(list(numbers) == list(range(numbers[0], numbers[0] + 5)) for numbers in draws.values())
    assert {numbers[0] for numbers in draws.values()} == set(range(21)), "every start has its turn"
    assert again.visit(4, 2).numbers == draws[4, 2]
    other = ImageSetDataset(data, ReadConfig(images=5, consecutive=True, seed=1))
    assert any(other.visit(index, 2).numbers != draws[index, 2] for index in range(4))
    check_pictures(dataset.visit(4, 2))
    check_pictures(dataset.visit(7, 11))


def test_neighbours_of_all_images_and_of_a_part(data: Path, uneven: Path) -> None:
    """A run beyond the end of what may be read, or one that takes an image for there which is not."""
    assert ImageSetDataset(data, ReadConfig(consecutive=True))[3].numbers == tuple(range(25))
    within = ImageSetDataset(data, ReadConfig(images=2, within=(4, 7), consecutive=True))
    assert {within.visit(index, 0).numbers for index in range(SETS)} == {(4, 5), (5, 6)}
    gaps = ImageSetDataset(uneven, ReadConfig(images=2, consecutive=True))
    assert {gaps.visit(2, epoch).numbers for epoch in range(20)} == {(0, 3), (3, 6)}
    with pytest.raises(UserError, match="'set002' has 3 images, 4 are wanted"):
        ImageSetDataset(uneven, ReadConfig(images=4, consecutive=True))[2]
