"""Sampling in a thread of its own, as a stream of previews and finished images that a visitor can stop at any step."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from m2m.data.pictures import images_from_pixels
from m2m.demo.engine import Engine
from m2m.sampling_record import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

PREVIEW_EVERY = 3  # denoising steps


class Stopped(Exception):
    """Raised in the pipeline's callback: the visitor wants no more."""


class Ticket:
    """The right to sample, until it is withdrawn."""

    def __init__(self) -> None:
        self.withdrawn = False

    def withdraw(self) -> None:
        """Ends the sampling within one denoising step, or before it begins. May be called from any thread."""
        self.withdrawn = True


@dataclass(frozen=True)
class Preview:
    """Image number `image` after `step` denoising steps, as the model expects it to become."""

    image: int
    step: int
    picture: Image.Image


@dataclass(frozen=True)
class Finished:
    """Image number `image` is done."""

    image: int
    picture: Image.Image


@dataclass(frozen=True)
class Ended:
    """No more will come. All images that were finished, in the order in which they were made."""

    images: list[Image.Image]


Event = Preview | Finished | Ended


def stream(
    engine: Engine,
    given: Sequence[Image.Image],
    settings: Settings,
    ticket: Ticket,
    conditions: NDArray[Any] | None = None,
) -> Iterator[Event]:
    """Sample as `settings` say and report what happens; the last event is `Ended`, also where the visitor stopped it.

    The images are those of the pipeline's own call, to the bit. Closing the iterator withdraws the ticket and waits for
    the thread, so the engine is free afterwards. Raises what the pipeline raises, such as UserError.
    """
    events: SimpleQueue[Event | Exception] = SimpleQueue()
    watcher = _Watcher(ticket, events)
    worker = threading.Thread(target=_sample, args=(engine, given, settings, conditions, watcher), daemon=True)
    worker.start()
    try:
        while True:
            event = events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, Ended):
                return
    finally:
        ticket.withdraw()
        worker.join()


def _sample(
    engine: Engine,
    given: Sequence[Image.Image],
    settings: Settings,
    conditions: NDArray[Any] | None,
    watcher: _Watcher,
) -> None:
    """What the thread does; its last event is `Ended` or what went wrong."""
    try:
        with engine.lock:
            watcher.check()
            called = asdict(settings) | {"conditions": conditions, "callback_on_step_end": watcher}
            result: Any = engine.pipe(list(given), **called)
        watcher.events.put(Ended(list(result.images)))
    except Stopped:
        watcher.events.put(Ended(watcher.finished))
    except Exception as error:
        watcher.events.put(error)


class _Watcher:
    """The pipeline's callback: looks at the ticket, and puts previews and finished images into the queue."""

    def __init__(self, ticket: Ticket, events: SimpleQueue[Event | Exception]) -> None:
        self.ticket = ticket
        self.events = events
        self.finished: list[Image.Image] = []
        self._image = 0
        self._latents: Tensor | None = None  # [1, C, h, w] after the last step
        self._timestep = 0

    def check(self) -> None:
        if self.ticket.withdrawn:
            raise Stopped

    def __call__(self, pipe: Any, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        self.check()
        image, latents = values["image_index"], values["latents"]
        if image != self._image and self._latents is not None:
            self._finish(pipe, self._latents)
            self._latents = None
        if self._latents is not None and step % PREVIEW_EVERY == 1:
            clean = expected(pipe.scheduler, self._latents, latents, self._timestep, timestep)
            self.events.put(Preview(image, step + 1, _picture(pipe, clean)))
        self._image, self._latents, self._timestep = image, latents, timestep
        return {}

    def _finish(self, pipe: Any, latents: Tensor) -> None:
        picture = _picture(pipe, latents)
        self.finished.append(picture)
        self.events.put(Finished(len(self.finished) - 1, picture))


def expected(scheduler: Any, before: Tensor, after: Tensor, former: int, timestep: int) -> Tensor:
    """The clean latents on the straight line through two successive noisy ones, [1, C, h, w].

    A step from t to t' of DDIM (Song et al. 2021, equation 12, eta 0) holds x = a z + s e and x' = a' z + s' e with one
    z and one e, a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar); so z = (s' x - s x') / (s' a - s a'). The pipeline's
    callback names t of its step; t' is taken as far from t as t from the timestep before, `former`.

    Noisy latents are returned as they are where the scheduler scales its noise otherwise.
    """
    levels = scheduler.alphas_cumprod
    lower = max(0, timestep - abs(former - timestep))
    if lower == timestep or not 0.99 < float(scheduler.init_noise_sigma) < 1.01:
        return after
    first, second = float(levels[timestep]), float(levels[lower])
    a, s, a2, s2 = first**0.5, (1 - first) ** 0.5, second**0.5, (1 - second) ** 0.5
    return (s2 * before - s * after) / (s2 * a - s * a2)


@torch.no_grad()
def _picture(pipe: Any, latents: Tensor) -> Image.Image:
    pixels: Tensor = pipe.decode(latents.float())  # [1, 3, H, W]
    return images_from_pixels(pixels)[0]
