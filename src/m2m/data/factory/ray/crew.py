"""The crew of a build on Ray: an actor in each place that the machines offer, replaced when it is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from m2m.data.factory.jobs import ShardJob
from m2m.data.factory.ray.actors import Answer, Opened, ShardMaker
from m2m.data.factory.ray.cluster import Slot, slots_of
from m2m.data.factory.settings import BuildSettings
from m2m.types import UserError

MOST_STARTS = 10  # in vain, one after the other, until a place is given up
CONTROL = "control"  # calls that an actor answers beside its work


@dataclass(eq=False)
class Actor:
    """One actor as the driver knows it. host: its machine's name, known when it is ready; job: the shard that it makes;
    images: how many it had committed when last asked; asked: the answer to that is due."""

    slot: Slot
    handle: Any
    host: str = ""
    job: ShardJob | None = None
    images: int = 0
    asked: bool = False


@dataclass(frozen=True)
class Lost:
    """The process of an actor, or its whole machine, is gone. job: what it was at; how: one line."""

    job: ShardJob | None
    how: str


class Crew:
    """Actors, and their answers that are due. recipe, settings: what each actor opens; workers: see `slots_of`."""

    def __init__(self, ray: Any, recipe: dict[str, Any], settings: BuildSettings, workers: int | None) -> None:
        self._ray, self._recipe, self._settings, self._workers = ray, recipe, settings, workers
        self._actors: dict[Slot, Actor] = {}
        self._due: dict[Any, Actor] = {}
        self._starts: Counter[Slot] = Counter()  # in vain
        self._trouble = "none has a core or a GPU to offer"
        self._gone = 0  # images of the actors that are lost

    @property
    def images(self) -> int:
        """How many images all actors have committed, as far as they have told."""
        return self._gone + sum(actor.images for actor in self._actors.values())

    @property
    def working(self) -> bool:
        return any(actor.job for actor in self._actors.values())

    @property
    def idle(self) -> list[Actor]:
        """Those that are ready for a shard."""
        return [actor for actor in self._actors.values() if actor.host and not actor.job]

    def staff(self) -> None:
        """Start an actor in every place that has none. Raises UserError where there is none and none can be started."""
        for slot in slots_of(self._ray.nodes(), self._workers):
            if slot not in self._actors and self._starts[slot] < MOST_STARTS:
                self._start(slot)
        if not self._actors:
            raise UserError(f"no machine of the Ray cluster can run an actor: {self._trouble}")

    def ask(self) -> None:
        """Ask those at work how many images they have committed."""
        for actor in self._actors.values():
            if actor.job and not actor.asked:
                actor.asked = True
                self._due[actor.handle.images.remote()] = actor

    def give(self, actor: Actor, job: ShardJob) -> None:
        """Let an idle actor make a shard."""
        actor.job = job
        self._due[actor.handle.make.remote(job)] = actor

    def answers(self, seconds: float) -> Iterator[tuple[str, Opened | Answer | Lost]]:
        """Wait at most so long, then yield what an actor has to tell, with its machine's name."""
        if not self._due:
            time.sleep(seconds)
            return
        ready, _ = self._ray.wait(list(self._due), num_returns=1, timeout=seconds)
        for call in ready:
            actor = self._due.pop(call)
            try:
                answer: Opened | Answer | Lost | None = self._note(actor, self._ray.get(call))
            except self._ray.exceptions.RayError as error:
                answer = self._lose(actor, error)
            if answer:
                yield actor.host, answer

    def stop(self) -> None:
        """Ask those at work to commit what they have made and to answer."""
        for actor in self._actors.values():
            if actor.job:
                actor.handle.stop.remote()

    def dismiss(self) -> None:
        """End all actors, whatever they do."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle)

    def _start(self, slot: Slot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Calls of the default group run one after the other in one thread, which is the one that owns the generator.
        for method in (ShardMaker.images, ShardMaker.stop):
            self._ray.method(concurrency_group=CONTROL)(method)
        remote = self._ray.remote(concurrency_groups={CONTROL: 1})(ShardMaker)
        here = NodeAffinitySchedulingStrategy(slot.machine, soft=False)
        handle = remote.options(num_cpus=slot.cpus, num_gpus=slot.gpus, scheduling_strategy=here).remote()
        self._actors[slot] = actor = Actor(slot, handle)
        self._starts[slot] += 1
        self._due[handle.open.remote(self._recipe, self._settings)] = actor

    def _note(self, actor: Actor, answer: Opened | Answer | int) -> Opened | Answer | None:
        """Keep what the crew itself needs of an answer; None: that was all."""
        if isinstance(answer, int):
            actor.images, actor.asked = answer, False
            return None
        if isinstance(answer, Opened):
            actor.host = answer.host
            self._starts[actor.slot] = 0
        else:
            actor.images, actor.job = answer.images, None
        return answer

    def _lose(self, actor: Actor, error: Exception) -> Lost:
        """Forget an actor. Where only the way to it is lost it may yet be running: it is told to end."""
        self._trouble = _first_line(error)
        self._gone += actor.images
        self._due = {call: other for call, other in self._due.items() if other is not actor}
        del self._actors[actor.slot]
        self._ray.kill(actor.handle)
        return Lost(actor.job, self._trouble)


def _first_line(error: Exception) -> str:
    """What happened, in one line. An error that an actor raised begins with a traceback; its cause does not."""
    told = getattr(error, "cause", None) or error
    return f"{type(told).__name__}: {(str(told).splitlines() or [''])[0]}"
