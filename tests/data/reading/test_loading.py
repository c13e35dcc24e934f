"""Reading ahead in worker processes: the same batches, errors in one line, and processes that end when they should."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from itertools import islice
from pathlib import Path

import pytest
import torch

from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.image_set import ImageSetBatch
from m2m.data.reading.loading import batches
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.sets import SetData, open_sets
from m2m.data.shards import ShardError
from m2m.types import UserError
from tests.data.factory.encoding import start_python
from tests.data.reading.loading import same
from tests.data.reading.toy_shards import full_sets, write_folder

SPEC = "world:mini:train:9"


def world() -> SetData:
    return open_sets(SPEC, ReadConfig(images=2, size=16))


def read(data: SetData, count: int, workers: int) -> list[ImageSetBatch]:
    loaded = batches(data, data.order(OrderConfig(4)), workers)
    taken = list(islice(loaded, count))
    loaded.close()
    return taken


def test_workers_change_nothing() -> None:
    """Batches in the order in which they are ready would give each number of workers a run of its own."""
    alone = read(world(), 6, 0)
    for workers in (1, 2):
        assert all(same(one, other) for one, other in zip(alone, read(world(), 6, workers), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_random_state_stays(workers: int) -> None:
    """The loader draws a seed from torch's global generator: dropout of a resumed run would be other dropout."""
    before = torch.get_rng_state()
    read(world(), 2, workers)
    assert torch.equal(before, torch.get_rng_state())


def test_closing_ends_the_workers() -> None:
    """Workers that outlive their run hold memory, and the terminal."""
    data = world()
    loaded = batches(data, data.order(OrderConfig(4)), 2)
    next(loaded)
    assert len(multiprocessing.active_children()) == 2
    loaded.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_come_out_as_they_were(tmp_path: Path, workers: int) -> None:
    """Wrapped by the loader, a user's mistake is a page of traceback, and no longer a UserError of one line."""
    few = write_folder(tmp_path / "few", {**full_sets(3, 5), "set003": [0, 1]})
    data = ImageSetDataset(few, ReadConfig(images=3))
    with pytest.raises(UserError, match="'set003' has 2 images, 3 are wanted") as caught:
        read(data, 1, workers)
    assert "\n" not in str(caught.value)
    damaged = write_folder(tmp_path / "damaged", full_sets(4, 5))
    tar = next(damaged.glob("*.tar"))
    tar.write_bytes(tar.read_bytes().replace(b"caption of set002", b"Caption of set002"))
    with pytest.raises(ShardError, match="damaged"):
        read(ImageSetDataset(damaged), 1, workers)
    assert not multiprocessing.active_children()


SIGNALLED = f"""
import multiprocessing, signal, sys
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.loading import batches
from m2m.data.reading.order import OrderConfig
from m2m.data.reading.sets import open_sets
from m2m.signals import stop_signals

data = open_sets("{SPEC}", ReadConfig(images=2, size=16))
with stop_signals() as received:
    loaded = batches(data, data.order(OrderConfig(4)), 2)
    next(loaded)
    print("ready", flush=True)
    while not received:
        next(loaded)
    for _ in range(20):  # more than is read ahead: the workers must be alive
        next(loaded)
    print(len(multiprocessing.active_children()), flush=True)
# Not closed: the interpreter's end must not wait for workers that never end.
"""


def test_signals_to_all_processes_leave_the_workers_to_the_run() -> None:
    """Ctrl-C, `timeout` and schedulers signal the whole group: dead workers would break the step that still runs."""
    process = start_python(SIGNALLED, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, output, errors) == (0, "2\n", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
