"""The ledger of a run: which shards it still has to make, and what became of the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from m2m.data.factory.folder import Failure, clear_failure, missing, set_aside
from m2m.data.factory.jobs import ShardJob
from m2m.data.factory.report import BuildProgress, BuildReport
from m2m.data.factory.settings import BuildSettings

MOST_LOSSES = 10  # processes that a shard may take with it before it is set aside


class Ledger:
    """Jobs are taken from it, and each is told once how it ended: done, busy, failed, lost or given back.

    Attribute todo: the jobs that nobody works on, in order.
    """

    def __init__(self, settings: BuildSettings, jobs: Sequence[ShardJob]) -> None:
        self.todo = deque(missing(settings.out, jobs))
        self._settings, self._jobs = settings, jobs
        self._there = {job.name for job in jobs} - {job.name for job in self.todo}
        self._busy: list[ShardJob] = []
        self._attempts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._made: list[str] = []
        self._failed: list[Failure] = []

    @property
    def waiting(self) -> bool:
        """Whether there are jobs that nobody of this run works on."""
        return bool(self.todo or self._busy)

    def done(self, job: ShardJob) -> None:
        self._there.add(job.name)
        self._made.append(job.name)
        clear_failure(self._settings.out, job.name)

    def busy(self, job: ShardJob) -> None:
        """A process of another run holds it; `look_again` tells whether that one finished it."""
        self._busy.append(job)

    def give_back(self, job: ShardJob) -> None:
        """Nothing is wrong with it; it is the next to be taken."""
        self.todo.appendleft(job)

    def failed(self, job: ShardJob, failure: Failure) -> None:
        """Queue the job again behind the others, or set it aside. failure: of this attempt."""
        self._attempts[job.name] += 1
        if self._attempts[job.name] < self._settings.attempts:
            self.todo.append(job)
        else:
            self._set_aside(Failure(job.name, self._attempts[job.name], failure.error, failure.details))

    def lost(self, job: ShardJob, how: str) -> None:
        """The process that made it is gone, which is seldom the shard's fault. The next one continues it."""
        self._losses[job.name] += 1
        if self._losses[job.name] < MOST_LOSSES:
            self.give_back(job)
        else:
            self._set_aside(Failure(job.name, MOST_LOSSES, f"the process that made it was lost: {how}"))

    def look_again(self) -> None:
        """Take back the busy jobs that their holders did not finish."""
        again = missing(self._settings.out, self._busy)
        self._there |= {job.name for job in self._busy} - {job.name for job in again}
        self.todo.extend(again)
        self._busy.clear()

    def progress(self, images: int) -> BuildProgress:
        return BuildProgress(len(self._there), len(self._jobs), images)

    def report(self, images: int, complete: bool) -> BuildReport:
        names = tuple(job.name for job in self._jobs)
        failed = {failure.name for failure in self._failed}
        left = tuple(name for name in names if name not in self._there | failed)
        return BuildReport(names, tuple(self._made), tuple(self._failed), left, images, complete)

    def _set_aside(self, failure: Failure) -> None:
        set_aside(self._settings.out, failure)
        self._failed.append(failure)
