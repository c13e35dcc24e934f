"""The tab "Images": a few pictures in, as many further ones as wanted out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from m2m.data.pictures import read_picture
from m2m.demo.desk import Desk, Run
from m2m.demo.engine import Engine
from m2m.demo.given_panel import AT_ONCE, given_panel, given_strip
from m2m.demo.picture_html import TELL_NUMBER, example_strip, line
from m2m.demo.result_panel import Asked, chosen_result, result_panel, run_buttons, use_as_context, wire
from m2m.demo.settings_panel import Choices, settings_panel, whole
from m2m.demo.uploads import Limits

TAB = "images"
MOST_IMAGES = 12
# Pictures of an example that become the given ones.
TAKEN = 3


def images_tab(engine: Engine, limits: Limits) -> gr.State:
    """Build the tab where it is called; its state, a `Desk` a visitor."""
    desk = gr.State(Desk(), delete_callback=Desk.leave)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(line("Drop pictures, or make images from nothing."), elem_id=f"{TAB}-status", render=False)
            given = given_panel(TAB, desk, status, limits)
            examples = _examples()
            number = gr.Slider(1, MOST_IMAGES, 4, step=1, label="How many to make", elem_id=f"{TAB}-number")
            generate, stop = run_buttons(TAB, "Generate")
            chosen = settings_panel(TAB, engine)
        with gr.Column(scale=3, min_width=320):
            status.render()
            results = result_panel(TAB, desk, status, generate, stop)
            with gr.Row(elem_classes="m2m-tools"):
                use = gr.Button("Use as context", size="sm", min_width=90, elem_id=f"{TAB}-use")
                again = gr.Button("Again with another seed", size="sm", min_width=90, elem_id=f"{TAB}-again")
                results.screen.download.render()
    examples.select(_take_example, desk, given.pictures, **AT_ONCE)
    wire(results, generate, partial(_asked, engine), desk, [number, *chosen])
    wire(results, again, asked_again, desk)
    use.click(partial(use_as_context, limits=limits), desk, [given.pictures, status], **AT_ONCE)
    return desk


def _asked(engine: Engine, desk: Desk, number: Any, *choices: Any) -> Asked:
    count = whole("the number of images", number, 1, MOST_IMAGES)
    denoising, guidance, _, *others = choices  # s_C is for models with a task
    settings = Choices(denoising, guidance, None, *others).settings(count)
    return Run(engine, tuple(desk.given), settings), False


def asked_again(desk: Desk) -> Asked:
    """One image in the place of the chosen result: it is shown what that was shown, of the given pictures and the
    images made before it, and has a seed that no result has had. It joins the row. Raises UserError if none is chosen.
    """
    run, number = chosen_result(desk)
    seed = 1 + max(each.settings.seed for each in desk.runs)
    settings = replace(run.settings, num_images=1, seed=seed)
    return Run(run.engine, run.seen_by(number), settings), True


def example_sets() -> dict[str, list[Image.Image]]:
    """The pictures that come with the package, by the name of their set."""
    sets = {}
    for folder in sorted((Path(str(files("m2m"))) / "demo" / "examples").iterdir()):
        sets[folder.name.replace("-", " ")] = [read_picture(path) for path in sorted(folder.glob("*.png"))]
    return sets


def _examples() -> gr.HTML:
    sets = example_sets()
    with gr.Accordion("Examples", open=True, elem_id=f"{TAB}-more"):
        return gr.HTML(
            example_strip([pictures[:TAKEN] for pictures in sets.values()], list(sets)),
            js_on_load=TELL_NUMBER,
            elem_id=f"{TAB}-examples",
        )


def _take_example(desk: Desk, event: gr.EventData) -> str:
    sets: Sequence[list[Image.Image]] = list(example_sets().values())
    if isinstance(event.index, int) and 0 <= event.index < len(sets):
        desk.given, desk.chosen_given = sets[event.index][:TAKEN], None
    return given_strip(desk)
