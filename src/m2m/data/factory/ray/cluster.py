"""The Ray cluster of a build: getting into it, and the places for actors that its machines offer."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from m2m.types import UserError

LOCAL = "local"
LOCAL_SETTINGS: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": 100 << 20,  # bytes; no image passes through Ray, so little is enough
    "_system_config": {"worker_niceness": 0},  # actors do the work itself; Ray would let all others go first
}
REACH = 10.0  # seconds that a cluster has to accept a connection


@dataclass(frozen=True)
class Slot:
    """A place for one actor: number `number` on a machine (Ray's id of it), with a share of its cores and GPUs."""

    machine: str
    number: int
    cpus: float
    gpus: float


def slots_of(machines: Sequence[Mapping[str, Any]], workers: int | None) -> list[Slot]:
    """The places for actors on the machines, as `ray.nodes()` describes them.

    workers: actors of a machine; None: one a GPU, or one where no machine has a GPU. Where one has, those without
    are left alone. Actors that are more than the GPUs share them. Beside its GPU an actor takes one core, for Ray lets
    it wait until all that it asks for is free; without GPUs the actors of a machine share all its cores.
    """
    alive = [(str(machine["NodeID"]), machine["Resources"]) for machine in machines if machine["Alive"]]
    kind = "GPU" if any(resources.get("GPU", 0) >= 1 for _, resources in alive) else "CPU"
    slots = []
    for name, resources in alive:
        if resources.get(kind, 0) < 1:  # a head that only leads, or a machine without a GPU beside such that have
            continue
        gpus = int(resources.get("GPU", 0))
        count = workers or max(gpus, 1)
        cores = min(count, resources.get("CPU", 0)) if gpus else resources["CPU"]
        slots += [Slot(name, number, _share(cores, count), _share(min(gpus, count), count)) for number in range(count)]
    return slots


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected to `address` ("local" starts a cluster on this machine, which ends with the context).

    A Ray that this process has already started is used, and left running. Raises UserError where Ray is not installed
    or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("building on Ray needs ray: pip install 'm2m-diffusion[data]'") from error
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    former = signal.getsignal(signal.SIGTERM)
    # Quiet: what becomes of actors is told by the driver.
    settings = {"log_to_driver": False, "logging_level": "error", **(LOCAL_SETTINGS if address == LOCAL else {})}
    try:
        _check_reachable(address)
        ray.init(address=address, **settings)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"no Ray cluster answers at '{address}' ({reason}); 'local' starts one on this machine"
        ) from error
    except SystemExit as end:  # SIGTERM while Ray starts: it would give its own number as the exit code
        raise SystemExit(128 + signal.SIGTERM) from end
    finally:
        # Ray takes SIGTERM for itself, and would end the process without letting the actors commit.
        if threading.current_thread() is threading.main_thread() and former is not None:
            signal.signal(signal.SIGTERM, former)


def _check_reachable(address: str) -> None:
    """OSError where nothing listens at HOST:PORT or ray://HOST:PORT: Ray itself would try for a quarter of an hour."""
    if found := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:([0-9]+)", address):
        with socket.create_connection((found[1], int(found[2])), timeout=REACH):
            pass


def _share(amount: float, count: int) -> float:
    """What each of `count` actors gets: whole numbers, or a fraction of one where there is not enough."""
    share = amount / count
    return float(int(share)) if share >= 1 else int(share * 1000) / 1000
