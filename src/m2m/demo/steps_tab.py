"""The tab "Procedures": pictures of the steps so far in, pictures of the next steps out (section 8.5.2)."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from m2m.demo.desk import Desk, Run
from m2m.demo.engine import Engine
from m2m.demo.given_panel import AT_ONCE, given_panel
from m2m.demo.picture_html import line
from m2m.demo.result_panel import Asked, result_panel, run_buttons, use_as_context, wire
from m2m.demo.settings_panel import Choices, settings_panel, whole
from m2m.demo.uploads import Limits
from m2m.sampling_record import conditions_of
from m2m.types import UserError

TAB = "steps"
MOST_STEPS = 12


def steps_tab(engine: Engine, limits: Limits) -> gr.State:
    """Build the tab where it is called; its state, a `Desk` a visitor."""
    desk = gr.State(Desk(), delete_callback=Desk.leave)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(line("Drop pictures of the first steps."), elem_id=f"{TAB}-status", render=False)
            given = given_panel(TAB, desk, status, limits, ordered=True)
            number = gr.Slider(1, MOST_STEPS, 3, step=1, label="How many steps to make", elem_id=f"{TAB}-number")
            generate, stop = run_buttons(TAB, "Continue")
            chosen = settings_panel(TAB, engine, "position")
        with gr.Column(scale=3, min_width=320):
            status.render()
            results = result_panel(TAB, desk, status, generate, stop)
            with gr.Row(elem_classes="m2m-tools"):
                use = gr.Button("Use as next step", size="sm", min_width=90, elem_id=f"{TAB}-use")
                results.screen.download.render()
    wire(results, generate, partial(_asked, engine), desk, [number, *chosen])
    use.click(partial(use_as_context, limits=limits), desk, [given.pictures, status], **AT_ONCE)
    return desk


def _asked(engine: Engine, desk: Desk, number: Any, *choices: Any) -> Asked:
    count = whole("the number of steps", number, 1, MOST_STEPS)
    if not desk.given:
        raise UserError("give pictures of the first steps")
    positions = conditions_of("visual_procedure", len(desk.given) + count)
    return Run(engine, tuple(desk.given), Choices(*choices).settings(count), positions), False
