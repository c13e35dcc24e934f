"""What one visitor has on one tab: given pictures, results, and the sampling that is under way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from m2m.demo.engine import Engine
from m2m.demo.sampling import Ticket
from m2m.demo.visit_folder import GRADIO_FOLDER, VisitFolder
from m2m.model.context_window import ANCHOR
from m2m.sampling_record import Settings
from m2m.sampling_request import chosen_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2m.tasks.cameras import Cameras


@dataclass(frozen=True, eq=False)
class Run:
    """One call of the pipeline, asked for or done.

    images: in the order in which they were made. cameras: of the given pictures and the views, and `order`, the numbers
    of the views as they are made; both None where there are no cameras. conditions: float32 [G + N, D] or None.
    """

    engine: Engine
    given: tuple[Image.Image, ...]
    settings: Settings
    conditions: NDArray[Any] | None = None
    cameras: Cameras | None = None
    order: tuple[int, ...] | None = None
    images: tuple[Image.Image, ...] = ()

    def with_images(self, images: Sequence[Image.Image]) -> Run:
        return replace(self, images=tuple(images))

    def finished(self) -> Run:
        """The run that would have made just the images that are there, the same to the bit: what a stopped run was."""
        count = len(self.images)
        if count == self.settings.num_images:
            return self
        short = replace(self, settings=replace(self.settings, num_images=count))
        if self.conditions is not None:
            short = replace(short, conditions=self.conditions[: len(self.given) + count])
        if self.cameras is None or self.order is None:
            return short
        kept = sorted(self.order[:count])
        cameras = replace(self.cameras, views=self.cameras.views[kept])
        return replace(short, cameras=cameras, order=tuple(kept.index(number) for number in self.order[:count]))

    def seen_by(self, number: int) -> tuple[Image.Image, ...]:
        """The pictures that made image `number` was shown, given ones first. Not for the policy "nearest"."""
        size, policy = chosen_window(self.settings.window, self.settings.window_policy, self.engine.pipe.config)
        before = self.given + self.images[:number]
        if size is None:
            return before
        anchors = max(1, len(self.given)) if policy == ANCHOR else 0
        others = before[anchors:]
        return before[:anchors] + others[max(0, len(others) - max(0, size - anchors)) :]

    def shown(self) -> list[int]:
        """Numbers of the made images, in the order in which they are shown: that of their cameras."""
        numbers = range(len(self.images))
        order = self.order
        return list(numbers) if order is None else sorted(numbers, key=lambda number: order[number])


@dataclass
class Desk:
    """One visitor's tab. A change of `given` or `runs` is made in one assignment: threads may look at any time."""

    given: list[Image.Image] = field(default_factory=list)
    chosen_given: int | None = None
    runs: list[Run] = field(default_factory=list)
    chosen_result: int | None = None
    ticket: Ticket | None = None
    folder: VisitFolder | None = None
    left: bool = False

    def results(self) -> list[tuple[Run, int]]:
        """Every result with its run and its number there, as shown."""
        return [(run, number) for run in self.runs for number in run.shown()]

    def pictures(self) -> list[Image.Image]:
        """The results, as shown."""
        return [run.images[number] for run, number in self.results()]

    def begin(self) -> Ticket:
        """A new right to sample; one that a visitor had before ends. A visitor who has left gets none that is worth."""
        self.stop()
        self.ticket = Ticket()
        if self.left:
            self.ticket.withdraw()
        return self.ticket

    def stop(self) -> None:
        if self.ticket is not None:
            self.ticket.withdraw()

    def files(self) -> Path:
        """The folder of this visit, in the demo's own; made when it is first needed."""
        if self.folder is None:
            self.folder = VisitFolder(Path(os.environ[GRADIO_FOLDER]))
        return self.folder.path

    def leave(self) -> None:
        """The visit is over: sampling ends, and pictures and files go."""
        self.left = True
        self.stop()
        self.given, self.runs = [], []
        if self.folder is not None:
            self.folder.close()
            self.folder = None
