"""Reading ahead while a step runs: batches of an order, through torch's `DataLoader` and its worker processes.

Nothing here changes what is read: batches come in the order's order, at any number of workers, and each carries the
cursor behind it, so what was read ahead and never used is read again after a resume.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader, Dataset

from m2m.data.reading.image_set import ImageSetBatch
from m2m.data.reading.order import BatchPlan, SetOrder
from m2m.data.reading.sets import SetData
from m2m.types import UserError

AHEAD = 2  # batches that each worker reads ahead
# What a terminal, or a scheduler, sends to a whole group of processes.
OUTSIDE = (signal.SIGINT, signal.SIGTERM)


def batches(
    data: SetData, order: SetOrder, workers: int = 0, pin_memory: bool = False
) -> Generator[ImageSetBatch, None, None]:
    """The batches of `order`, read by `workers` processes beside this one (0: by this one, when they are asked for).

    pin_memory: in memory from which a GPU copies without waiting. Closing the generator ends the processes. torch's
    global random state stays as it is. Raises UserError (ShardError) as reading does, whichever process has read.
    """
    if workers < 0:
        raise UserError(f"workers is {workers}; use 0 to read in the process that trains, or more")
    loader = DataLoader(
        _Told(data),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would differ from then on
    )
    with _signals_blocked():  # workers start with them blocked, so that none can strike before they are ready
        iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    finally:
        # Not left to the garbage collector: an error's traceback would keep the workers alive.
        getattr(iterator, "_shutdown_workers", lambda: None)()


class _Told(Dataset[ImageSetBatch | UserError]):
    """Data whose errors are values: raised in a worker, the loader would wrap them in a page of traceback."""

    def __init__(self, data: SetData) -> None:
        self._data = data

    def __getitem__(self, plan: BatchPlan) -> ImageSetBatch | UserError:
        try:
            return self._data[plan]
        except UserError as error:
            return error


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OUTSIDE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_parent(worker: int) -> None:
    """In a worker: Ctrl-C and SIGTERM are for the process that trains, which finishes its step and then ends us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, OUTSIDE)
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    while True:
        if signal.sigwaitinfo(OUTSIDE).si_pid == parent:
            os._exit(0)
