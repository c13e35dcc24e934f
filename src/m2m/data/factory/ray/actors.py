"""The actor of a build on Ray: one process with the generator in it, which makes the shards that it is given.

What goes between the processes are plain dataclasses, errors as text: an exception of some library may not survive
the way to another process.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Any

from m2m.data.factory.assembly import Assembly, DiskError, Outcome
from m2m.data.factory.folder import BUILD, Failure
from m2m.data.factory.jobs import ShardJob
from m2m.data.factory.recipes import open_source
from m2m.data.factory.repair import library_versions
from m2m.data.factory.report import failure_of
from m2m.data.factory.settings import BuildSettings, identity
from m2m.data.shards import ShardBusy
from m2m.types import UserError


class End(Enum):
    """How the work on a shard ended."""

    MADE = "it is finished, by this call or before"
    BUSY = "another process is at work on it"
    LEFT = "stopped; what is made is committed"
    FAILED = "it cannot be made"
    DISK = "the disk refused it, as it would any other shard"
    UNSEEN = "this machine does not see the folder"


@dataclass(frozen=True)
class Opened:
    """What an actor says when its source is open. error: one line for the user, if it could not be opened.

    identity: what its shards would be (`settings.identity`); libraries: what else shapes their bytes.
    """

    host: str
    identity: dict[str, Any] | None = None
    libraries: str = ""
    error: str = ""


@dataclass(frozen=True)
class Answer:
    """What an actor says at the end of its work on a shard. images: committed by it so far, this shard and others.

    failure: where it cannot be made; code, message: errno and its text, where the disk refused.
    """

    job: ShardJob
    end: End
    images: int
    failure: Failure | None = None
    code: int | None = None
    message: str = ""


class ShardMaker:
    """Makes one shard after the other. `images` and `stop` are called from another thread, while `make` is at work."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._settings: BuildSettings | None = None
        self._assembly: Assembly | None = None

    def open(self, recipe: dict[str, Any], settings: BuildSettings) -> Opened:
        """Load the source and its generator."""
        host = platform.node()
        try:
            source = open_source(recipe)
            found = identity(source, settings)
        except UserError as error:
            return Opened(host, error=str(error))
        self._settings = settings
        self._assembly = Assembly(source, settings, self._stopping.is_set)
        return Opened(host, found, library_versions())

    def make(self, job: ShardJob) -> Answer:
        """Make what is missing of a shard."""
        assert self._settings and self._assembly
        if not (self._settings.out / BUILD).exists():
            return Answer(job, End.UNSEEN, self.images())
        try:
            self._assembly.make(job)
        except ShardBusy:
            return Answer(job, End.BUSY, self.images())
        (outcome,) = self._assembly.drain()
        return self._answer(outcome)

    def images(self) -> int:
        """How many images this actor has committed."""
        return self._assembly.images if self._assembly else 0

    def stop(self) -> None:
        """Let `make` end behind the unit that is at work. It is committed, and the shard can be continued."""
        self._stopping.set()

    def _answer(self, outcome: Outcome) -> Answer:
        job, error = outcome.job, outcome.error
        if error is None:
            return Answer(job, End.MADE if outcome.record else End.LEFT, self.images())
        if isinstance(error, DiskError):
            return Answer(job, End.DISK, self.images(), code=error.errno, message=error.strerror or str(error))
        return Answer(job, End.FAILED, self.images(), failure_of(job.name, 1, error))
