"""The tab "Novel views": pictures of an object in, pictures of it from other cameras out (section 8.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from m2m.data.cameras import look_at_origin
from m2m.demo.desk import Desk, Run
from m2m.demo.engine import Engine
from m2m.demo.given_panel import AT_ONCE, given_panel
from m2m.demo.picture_html import line
from m2m.demo.result_panel import Asked, result_panel, run_buttons, use_as_context, wire
from m2m.demo.settings_panel import Choices, number, settings_panel, whole
from m2m.demo.uploads import Limits
from m2m.sampling_record import Settings, conditions_of
from m2m.tasks.cameras import Cameras, generation_order
from m2m.types import UserError

TAB = "views"
AROUND, ONE = "Around", "One view"
MOST_VIEWS = 12
ELEVATIONS = (-30, 80)  # degrees
AZIMUTHS = (-180, 180)


def views_tab(engine: Engine, limits: Limits) -> gr.State:
    """Build the tab where it is called; its state, a `Desk` a visitor."""
    desk = gr.State(Desk(), delete_callback=Desk.leave)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(line("Drop a picture of an object."), elem_id=f"{TAB}-status", render=False)
            given = given_panel(TAB, desk, status, limits)
            cameras = _camera_controls()
            generate, stop = run_buttons(TAB, "Turn")
            chosen = settings_panel(TAB, engine, "camera")
        with gr.Column(scale=3, min_width=320):
            status.render()
            results = result_panel(TAB, desk, status, generate, stop)
            with gr.Row(elem_classes="m2m-tools"):
                use = gr.Button("Use as a given picture", size="sm", min_width=90, elem_id=f"{TAB}-use")
                results.screen.download.render()
    wire(results, generate, partial(_asked, engine), desk, [*cameras, *chosen])
    use.click(partial(use_as_context, limits=limits), desk, [given.pictures, status], **AT_ONCE)
    return desk


def _camera_controls() -> list[Any]:
    """In the order of the parameters of `cameras_of`."""
    mode = gr.Radio([AROUND, ONE], value=AROUND, label="Camera", elem_id=f"{TAB}-mode")
    count = gr.Slider(1, MOST_VIEWS, 7, step=1, label="Views around the object", elem_id=f"{TAB}-count")
    azimuth = gr.Slider(*AZIMUTHS, 60, step=5, label="To the side (degrees)", visible=False, elem_id=f"{TAB}-azimuth")
    height = gr.Slider(*ELEVATIONS, 20, step=5, label="Above (degrees)", visible=False, elem_id=f"{TAB}-height")
    elevation = gr.Slider(
        *ELEVATIONS, 20, step=5, label="Your pictures were taken from above (degrees)", elem_id=f"{TAB}-elevation"
    )
    azimuths = gr.Textbox(
        "0", label="... and from these sides (degrees, one a picture)", max_lines=1, elem_id=f"{TAB}-azimuths"
    )

    def show(mode: str) -> list[Any]:
        return [gr.update(visible=mode == AROUND), *(gr.update(visible=mode == ONE) for _ in range(2))]

    mode.change(show, mode, [count, azimuth, height], **AT_ONCE)
    return [mode, count, azimuth, height, elevation, azimuths]


def cameras_of(given: int, mode: Any, count: Any, azimuth: Any, height: Any, elevation: Any, azimuths: Any) -> Cameras:
    """The cameras that the controls describe, at distance 1, for so many given pictures. Raises UserError.

    An orbit begins at the first given picture, which takes one of its places; the views are the others.
    """
    low = number("the elevation of your pictures", elevation, *ELEVATIONS)
    sides = _sides(azimuths, given)
    start = look_at_origin(sides, low, 1.0)
    if mode == ONE:
        side = number("to the side", azimuth, *AZIMUTHS)
        return Cameras(start, look_at_origin([sides[0] + side], number("above", height, *ELEVATIONS), 1.0))
    places = whole("the number of views", count, 1, MOST_VIEWS) + 1
    return Cameras(start, look_at_origin(sides[0] + 360 / places * np.arange(1, places), low, 1.0))


def _sides(text: Any, given: int) -> list[float]:
    """ "0, 90" for two pictures."""
    if not given:
        raise UserError("give a picture of the object")
    try:
        sides = [float(part) for part in str(text).split(",")]
    except ValueError as error:
        raise UserError(f"the sides are {str(text)!r:.40}: use degrees, one a picture, such as 0, 90") from error
    if len(sides) != given or not all(abs(side) <= 360 for side in sides):
        raise UserError(f"{given} pictures need {given} sides in degrees from -360 to 360, such as 0, 90")
    return sides


def _asked(engine: Engine, desk: Desk, *values: Any) -> Asked:
    controls, choices = values[:6], values[6:]
    cameras = cameras_of(len(desk.given), *controls)
    settings = Choices(*choices).settings(len(cameras.views))
    return run_of(engine, desk.given, cameras, settings), False


def run_of(engine: Engine, given: Sequence[Any], cameras: Cameras, settings: Settings) -> Run:
    """The run that makes the views, the nearest to a given picture first, each shown the nearest in its window."""
    order = tuple(place - len(given) for place in generation_order(cameras.all, len(given)))
    stored = np.concatenate([cameras.given, cameras.views[list(order)]]).reshape(-1, 12)
    settings = replace(settings, window_policy="nearest")
    told = conditions_of("novel_view", len(cameras.all), stored)
    return Run(engine, tuple(given), settings, told, cameras, order)
