"""Sampling as a stream: the same images as a call of the pipeline, stopped at any step, and nobody left behind."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from m2m.demo.engine import Engine
from m2m.demo.sampling import Ended, Finished, Preview, Ticket, expected, stream
from m2m.sampling_record import Settings
from m2m.types import UserError
from tests.tiny import pictures, tiny_pipeline, tiny_scheduler

SETTINGS = Settings(3, 6, 3.0, None, None, None, seed=4)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", tiny_pipeline(), {"name": "tiny", "weights_sha256": "0"})


def arrays(images: list) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def test_the_stream_ends_with_the_images_of_the_pipelines_own_call(engine: Engine) -> None:
    """A callback that changes the latents, or a lost setting, would make other images than `m2m generate`."""
    given = pictures(2)
    *events, last = stream(engine, given, SETTINGS, Ticket())
    assert isinstance(last, Ended)
    assert np.array_equal(arrays(last.images), arrays(engine.pipe(given, **asdict(SETTINGS)).images))
    assert [event.image for event in events if isinstance(event, Finished)] == [0, 1]  # the last comes with the end
    assert {event.image for event in events if isinstance(event, Preview)} == {0, 1, 2}


def test_a_stopped_sampling_keeps_what_is_finished_and_takes_no_further_step(engine: Engine) -> None:
    """A stop that is looked at between images alone would let a visitor wait; one that throws all away would anger."""
    ticket, steps = Ticket(), []
    events = []
    for event in stream(engine, [], SETTINGS, ticket):
        events.append(event)
        if isinstance(event, Finished):
            ticket.withdraw()
        elif isinstance(event, Preview):
            steps.append(event.image)
    assert isinstance(events[-1], Ended)
    assert 1 <= len(events[-1].images) <= 2
    whole = engine.pipe([], **asdict(SETTINGS)).images
    difference = np.abs(arrays(events[-1].images).astype(int) - arrays(whole[: len(events[-1].images)]).astype(int))
    assert difference.max() <= 1  # decoded alone, not beside the others
    assert max(steps) < 2


def test_a_ticket_that_was_withdrawn_before_gives_nothing(engine: Engine) -> None:
    """Who stops while waiting for a turn would otherwise be served all the same."""
    ticket = Ticket()
    ticket.withdraw()
    (only,) = stream(engine, [], SETTINGS, ticket)
    assert only == Ended([])


def test_a_closed_stream_lends_the_engine_to_the_next(engine: Engine) -> None:
    """A visitor who closes the page in the middle would otherwise block all others for ever."""
    events = stream(engine, [], replace(SETTINGS, num_images=100), Ticket())
    next(events)
    events.close()
    assert not engine.lock.locked()
    assert isinstance(list(stream(engine, [], replace(SETTINGS, num_images=1), Ticket()))[-1], Ended)


def test_what_the_pipeline_refuses_reaches_the_visitor(engine: Engine) -> None:
    """An error in the thread would otherwise leave the page waiting."""
    with pytest.raises(UserError, match="num_inference_steps is 5000"):
        list(stream(engine, [], replace(SETTINGS, num_inference_steps=5000), Ticket()))
    assert not engine.lock.locked()


def test_the_preview_is_what_the_noise_hides() -> None:
    """With the wrong levels a preview shows noise until the last step."""
    scheduler = tiny_scheduler()
    clean, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    former, timestep, lower = 781, 741, 701
    before, after = (scheduler.add_noise(clean, noise, torch.tensor([level])) for level in (timestep, lower))
    found = expected(scheduler, before, after, former, timestep)
    assert torch.allclose(found, clean, atol=1e-3)
