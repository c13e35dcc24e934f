"""The build: a source and settings to a folder of shards, of which a later run makes only what is missing.

    report = build(source, BuildSettings(out=Path("shards"), images=(0, 25)))

A shard that fails is tried again after the others, and set aside after some attempts; the run goes on. What the disk
refuses ends the run. Several processes may build in one folder: they share the shards. Whatever happened on the way,
the finished folder and its manifest are the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from m2m.data.factory.assembly import Assembly, DiskError, Outcome
from m2m.data.factory.folder import disk_errors, finish_manifest, manifest_despite, open_folder
from m2m.data.factory.jobs import ShardJob, check_shards, plan_jobs
from m2m.data.factory.ledger import Ledger
from m2m.data.factory.report import BuildProgress, BuildReport, Progress, failure_of
from m2m.data.factory.settings import BuildSettings, identity
from m2m.data.factory.sources import SetSource
from m2m.data.shards import ShardBusy, is_finished

__all__ = ["BuildProgress", "BuildReport", "Progress", "build", "failure_of"]

BUSY_WAIT = 0.5  # seconds between two looks at shards that other processes hold


def build(
    source: SetSource,
    settings: BuildSettings,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> BuildReport:
    """Make the shards that are asked for and missing, then write the manifest of what is there.

    progress: called between units of images; what it raises ends the run. stop: asked between units; once true, what is
    made is committed, and the run ends. Raises UserError for a folder of other settings or slices, and where the disk
    refuses (full, read-only); what is finished and committed then stays, and the same call continues.
    """
    check_shards(settings, len(source))
    wanted = identity(source, settings)  # reads the source's own files, so their errors are not the disk's of --out
    with disk_errors(settings.out):
        slices = open_folder(settings.out, wanted, settings.images)
        run = _Run(source, settings, plan_jobs(settings, slices, len(source)), progress, stop)
        with manifest_despite(OSError, settings.out):
            run.work()
        return run.report(complete=finish_manifest(settings.out).complete)


class _Run:
    """One call of `build`: jobs go from the ledger to the assembly, and outcomes the other way."""

    def __init__(
        self,
        source: SetSource,
        settings: BuildSettings,
        jobs: Sequence[ShardJob],
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._out = settings.out
        self._progress, self._stop = progress, stop or (lambda: False)
        self._ledger = Ledger(settings, jobs)
        self._assembly = Assembly(source, settings, self._between_units)

    def work(self) -> None:
        """Until all is made or set aside, or the run is stopped. Raises OSError where the disk refuses."""
        with self._assembly as assembly:
            while not self._between_units():
                self._settle(assembly.outcomes() if self._ledger.todo else assembly.drain())
                if self._ledger.todo:
                    self._make(self._ledger.todo.popleft())
                elif self._ledger.waiting:
                    time.sleep(BUSY_WAIT)
                    self._ledger.look_again()
                else:
                    break
        self._settle(assembly.outcomes())
        self._between_units()

    def report(self, complete: bool) -> BuildReport:
        return self._ledger.report(self._assembly.images, complete)

    def _between_units(self) -> bool:
        """Whether to stop; tells how far the run is."""
        if self._progress:
            self._progress(self._ledger.progress(self._assembly.images))
        return self._stop()

    def _make(self, job: ShardJob) -> None:
        if is_finished(self._out, job.name):  # by another process, since this one looked
            self._ledger.busy(job)
            return
        try:
            self._assembly.make(job)
        except ShardBusy:
            self._ledger.busy(job)

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        """Write down how shards ended; one that was left for a later run counts as nothing yet."""
        for outcome in outcomes:
            if outcome.record:
                self._ledger.done(outcome.job)
            elif isinstance(outcome.error, DiskError):
                raise outcome.error
            elif outcome.error:
                self._ledger.failed(outcome.job, failure_of(outcome.job.name, 1, outcome.error))
