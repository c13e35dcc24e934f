"""The build on many machines: actors of Ray make the shards, a queue in this process hands them out.

    report = build_on_ray(recipe, BuildSettings(out=Path("/shared/mis"), images=(0, 5)), "local")

Each GPU (or each machine, where there are none) gets an actor that holds the generator. An actor that dies, alone or
with its machine, is replaced, machines that join later get actors too, and the shard that was at work goes to another
actor, which continues it behind the last unit that was committed. Nothing but the names of shards and their fate passes
through Ray: actors write to the folder themselves, so --out must be a folder that all machines see under the same path,
and so must the captions and a generator's folder. The files are the same bytes as those of `build`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2m.data.factory.assembly import DiskError
from m2m.data.factory.folder import disk_errors, finish_manifest, manifest_despite, open_folder
from m2m.data.factory.jobs import ShardJob, check_shards, plan_jobs
from m2m.data.factory.ledger import Ledger
from m2m.data.factory.ray.actors import Answer, End, Opened
from m2m.data.factory.ray.cluster import cluster
from m2m.data.factory.ray.crew import Crew, Lost
from m2m.data.factory.report import BuildReport, Progress
from m2m.data.factory.settings import BuildSettings
from m2m.data.shards import is_finished
from m2m.types import UserError

TICK = 0.2  # seconds between two looks at `stop`
LOOK = 1.0  # seconds between two looks at machines, at busy shards, and at how far actors are
GRACE = 120.0  # seconds that actors get to commit what they have made
LATEST = 120.0  # seconds until a shard that another machine wrote must be seen here: network file systems are slow


def build_on_ray(
    recipe: dict[str, Any],
    settings: BuildSettings,
    address: str,
    workers: int | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> BuildReport:
    """As `build`, by actors on the machines of a Ray cluster.

    recipe: of the source (`recipes`), which every actor opens for itself; this process never loads a generator.
    address: "local" for a cluster on this machine alone, or that of a running one; workers: as in `slots_of`.
    Raises UserError as `build` does, and where Ray is missing, the cluster does not answer, or its machines differ in
    what shapes the bytes.
    """
    settings = replace(settings, out=settings.out.absolute())
    with cluster(address) as ray, disk_errors(settings.out):
        run = RayRun(Crew(ray, _absolute(recipe), settings, workers), settings, progress, stop)
        with manifest_despite(OSError, settings.out):
            run.work()
        return run.report()


def _absolute(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe for processes that run in another folder than this one."""
    generator = recipe["generator"]
    kind, _, name = generator["spec"].partition(":")
    if kind == "diffusers" and Path(name).is_dir():
        generator = {**generator, "spec": f"{kind}:{Path(name).absolute()}"}
    return {**recipe, "captions": str(Path(recipe["captions"]).absolute()), "generator": generator}


class RayRun:
    """One call of `build_on_ray`: who makes what, and what became of it."""

    def __init__(
        self, crew: Crew, settings: BuildSettings, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> None:
        self._crew, self._settings = crew, settings
        self._progress, self._stop = progress, stop or (lambda: False)
        self._ledger: Ledger | None = None  # known when the first actor has told what the source is
        self._first: Opened | None = None
        self._unseen: dict[ShardJob, tuple[str, float]] = {}  # made, not seen from here yet: on which host, when
        self._fatal: Exception | None = None
        self._looked = 0.0

    def work(self) -> None:
        """Until everything is made, or stopped, or cannot go on. Raises UserError and DiskError."""
        try:
            while not (self._finished() or self._fatal or self._stop()):
                self._look_around()
                self._hand_out()
                self._receive()
        finally:
            self._end()
        if self._fatal:
            raise self._fatal

    def report(self) -> BuildReport:
        """What became of the shards; writes the manifest. Stopped before the first actor was ready: nothing at all."""
        if self._ledger is None:
            return BuildReport((), (), (), (), images=0, complete=False)
        return self._ledger.report(self._crew.images, finish_manifest(self._settings.out).complete)

    def settle(self, host: str, answer: Opened | Answer | Lost) -> None:
        """Write down what an actor on machine `host` tells. Raises UserError or DiskError where that ends the run."""
        if isinstance(answer, Opened):
            self._opened(answer)
        elif isinstance(answer, Answer):
            self._answered(host, answer)
        elif answer.job and self._ledger:
            self._ledger.lost(answer.job, answer.how)

    def _finished(self) -> bool:
        return self._ledger is not None and not (self._ledger.waiting or self._crew.working or self._unseen)

    def _look_around(self) -> None:
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        self._crew.ask()
        if self._ledger:
            self._ledger.look_again()
        if self._ledger is None or self._ledger.todo:
            self._crew.staff()

    def _hand_out(self) -> None:
        for actor in self._crew.idle:
            if self._ledger and self._ledger.todo:
                self._crew.give(actor, self._ledger.todo.popleft())

    def _receive(self) -> None:
        """Wait a moment for answers, and deal with them."""
        try:
            for host, answer in self._crew.answers(TICK):
                self.settle(host, answer)
            self._confirm()
        except (UserError, OSError) as error:
            self._fatal = self._fatal or error
        if self._ledger and self._progress:
            self._progress(self._ledger.progress(self._crew.images))

    def _opened(self, opened: Opened) -> None:
        """An actor is ready. The first one tells what is to be made; all must be about to make the same bytes."""
        if opened.identity is None:
            raise UserError(f"machine {opened.host}: {opened.error}")
        check_shards(self._settings, opened.identity["sets"])
        try:
            slices = open_folder(self._settings.out, opened.identity, self._settings.images)
        except UserError as error:
            raise UserError(f"{error} (seen from machine {opened.host})") from error
        if self._first is None:
            self._first = opened
            self._ledger = Ledger(self._settings, plan_jobs(self._settings, slices, opened.identity["sets"]))
        if opened.libraries != self._first.libraries:
            there, here = f"{self._first.host} has {self._first.libraries}", f"{opened.host} {opened.libraries}"
            raise UserError(f"machines differ in what shapes the bytes: {there}, but {here}; install the same")

    def _answered(self, host: str, answer: Answer) -> None:
        assert self._ledger
        job = answer.job
        if answer.end is End.MADE:
            self._unseen[job] = (host, time.monotonic())
        elif answer.end is End.BUSY:
            self._ledger.busy(job)
        elif answer.end is End.FAILED and answer.failure:
            self._ledger.failed(job, answer.failure)
        else:
            self._ledger.give_back(job)
        if answer.end is End.DISK:
            raise DiskError(answer.code, answer.message)
        if answer.end is End.UNSEEN:
            out = self._settings.out
            raise UserError(f"machine {host} does not see the folder '{out}'; --out must be one that all machines see")

    def _confirm(self) -> None:
        """A shard that an actor made counts once it is in the folder, seen from here."""
        assert self._ledger or not self._unseen
        for job, (host, since) in list(self._unseen.items()):
            if self._ledger and is_finished(self._settings.out, job.name):
                del self._unseen[job]
                self._ledger.done(job)
            elif time.monotonic() - since > LATEST:
                del self._unseen[job]
                where = f"'{job.name}' was made on machine {host} and is not in '{self._settings.out}' here"
                raise UserError(f"{where}; --out must be a folder that all machines see")

    def _end(self) -> None:
        """Let the actors commit what they have made, wait for that, and end them."""
        self._crew.stop()
        until = time.monotonic() + GRACE
        while time.monotonic() < until and (self._unseen or self._crew.working):
            self._receive()
        self._crew.dismiss()
