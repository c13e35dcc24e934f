"""The results of a tab: the image that is being made, the row of finished ones, and what may be done with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from m2m.demo.archive import NAME, turn_around, write_archive
from m2m.demo.desk import Desk, Run
from m2m.demo.given_panel import AT_ONCE, check_room, complaint, given_strip
from m2m.demo.picture_html import TELL_NUMBER, animation, line, single, strip
from m2m.demo.sampling import Finished, Preview, stream
from m2m.demo.uploads import Limits
from m2m.types import UserError

UNCHANGED: Any = gr.skip()
EMPTY = "What you make appears here."
# One sampling at a time for all visitors and tabs: the others wait in the queue.
SAMPLING: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "sampling",
    "show_progress": "minimal",
    "api_visibility": "private",
}
# A run that is to replace the results, or (True) to be added to them.
Asked = tuple[Run, bool]


class Screen(NamedTuple):
    """What the components show that a sampling writes to, or these components; by default, what they showed before."""

    status: Any
    preview: Any = UNCHANGED
    results: Any = UNCHANGED
    download: Any = UNCHANGED
    turnaround: Any = UNCHANGED


@dataclass(frozen=True)
class ResultPanel:
    """The components of the panel, and the two buttons of the tab that a sampling switches."""

    screen: Screen
    generate: gr.Button
    stop: gr.Button


def run_buttons(tab: str, label: str) -> tuple[gr.Button, gr.Button]:
    """The button that samples, with its label, and the one that stops it, side by side."""
    with gr.Row(elem_classes="m2m-actions"):
        generate = gr.Button(label, variant="primary", min_width=120, elem_id=f"{tab}-generate")
        stop = gr.Button("Stop", interactive=False, min_width=120, elem_id=f"{tab}-stop")
    return generate, stop


def result_panel(tab: str, desk: gr.State, status: gr.HTML, generate: gr.Button, stop: gr.Button) -> ResultPanel:
    """The preview, the row of results and the turn-around, in the place where it is called. The button for the ZIP is
    to be put somewhere by `render()`."""
    preview = gr.HTML("", elem_id=f"{tab}-preview")
    results = gr.HTML(
        strip([], None, EMPTY, ""), js_on_load=TELL_NUMBER, elem_id=f"{tab}-results", elem_classes="m2m-results"
    )
    turnaround = gr.HTML("", elem_id=f"{tab}-turnaround")
    download = gr.DownloadButton(
        "Download ZIP", interactive=False, size="sm", min_width=90, elem_id=f"{tab}-download", render=False
    )
    results.select(_choose, desk, results, **AT_ONCE)
    stop.click(_stop, desk, status, **AT_ONCE)
    return ResultPanel(Screen(status, preview, results, download, turnaround), generate, stop)


def wire(
    panel: ResultPanel, button: gr.Button, prepare: Callable[..., Asked], desk: gr.State, inputs: Sequence[Any] = ()
) -> None:
    """A click on the button samples what `prepare(desk, *inputs)` asks for, which may raise UserError."""

    def sample(desk: Desk, *values: Any) -> Iterator[Screen]:
        yield from sampled(desk, prepare, values)

    buttons = [panel.generate, panel.stop]
    begun = button.click(_begin, desk, [panel.screen.status, *buttons], **AT_ONCE)
    shown = list(panel.screen)
    ended = begun.then(sample, [desk, *inputs], shown, show_progress_on=[panel.screen.status], **SAMPLING)
    ended.then(_idle, None, buttons, **AT_ONCE)


def _begin(desk: Desk) -> tuple[str, Any, Any]:
    """Before the queue, so that a visitor who waits in it can stop too."""
    desk.begin()
    return line("Waiting for a turn …"), gr.update(interactive=False), gr.update(interactive=True)


def _idle() -> tuple[Any, Any]:
    return gr.update(interactive=True), gr.update(interactive=False)


def _stop(desk: Desk) -> str:
    desk.stop()
    return line("Stopping …")


def sampled(desk: Desk, prepare: Callable[..., Asked], values: Sequence[Any]) -> Iterator[Screen]:
    """Sample what `prepare` asks for; after every event, what the page is to show."""
    try:
        run, joins = prepare(desk, *values)
        yield from _sampled(desk, desk.runs if joins else [], run)
    except UserError as error:
        yield Screen(complaint(error), "", result_strip(desk))


def _sampled(desk: Desk, before: list[Run], run: Run) -> Iterator[Screen]:
    """before: the runs whose results stay. Those of this one are added as they come."""
    ticket = desk.ticket or desk.begin()
    started = time.perf_counter()
    desk.runs, desk.chosen_result = before, None
    empty = result_strip(desk) if before else ""
    yield Screen(line(_progress(run, 0, 0)), "", empty, gr.update(interactive=False), "")
    made: list[Image.Image] = []
    for event in stream(run.engine, run.given, run.settings, ticket, run.conditions):
        if isinstance(event, Preview):
            text = _progress(run, event.image, event.step)
            yield Screen(line(text), single(event.picture, text))
        elif isinstance(event, Finished):
            made.append(event.picture)
            desk.runs = [*before, run.with_images(made)]
            yield Screen(line(_progress(run, event.image + 1, 0)), "", result_strip(desk))
        elif not desk.left:
            yield _ended(desk, before, run.with_images(event.images), time.perf_counter() - started)


def _ended(desk: Desk, before: list[Run], run: Run, seconds: float) -> Screen:
    """What stays: the results, without what was not finished, and the ZIP of all."""
    count, asked = len(run.images), run.settings.num_images
    desk.runs = [*before, run.finished()] if count else before
    text = f"{count} {'image' if count == 1 else 'images'} in {seconds:.1f} s"
    text = text if count == asked else f"Stopped: {count} of {asked} finished"
    if not desk.runs:
        return Screen(line(text), "", result_strip(desk))
    folder = desk.files()
    gif = turn_around(desk.runs[0], folder)
    path = write_archive(folder / NAME, desk.runs, gif)
    return Screen(line(text), "", result_strip(desk), gr.update(value=str(path), interactive=True), animation(gif))


def _progress(run: Run, image: int, step: int) -> str:
    asked = run.settings.num_images
    at = f", step {step} of {run.settings.num_inference_steps}" if step else ""
    return f"Image {min(image + 1, asked)} of {asked}{at}"


def result_strip(desk: Desk) -> str:
    return strip(desk.pictures(), desk.chosen_result, EMPTY, "result")


def _choose(desk: Desk, event: gr.EventData) -> str:
    number = event.index
    desk.chosen_result = number if isinstance(number, int) and 0 <= number < len(desk.pictures()) else None
    return result_strip(desk)


def use_as_context(desk: Desk, limits: Limits) -> tuple[str, str]:
    """Append the chosen result to the given pictures; the strip of these and the line of text."""
    try:
        run, number = chosen_result(desk)
        check_room(desk, limits)
    except UserError as error:
        return given_strip(desk), complaint(error)
    desk.given = [*desk.given, run.images[number]]
    return given_strip(desk), line("Added to your pictures.")


def chosen_result(desk: Desk) -> tuple[Run, int]:
    """The run of the chosen result and its number there. Raises UserError if none is chosen."""
    results = desk.results()
    if desk.chosen_result is None or desk.chosen_result >= len(results):
        raise UserError("choose a result first: click it")
    return results[desk.chosen_result]
