"""The page: three tabs over the loaded models, nothing of a visitor kept after the visit.

Every control has an element id: the tab's name ("images", "views", "steps"), a dash, and one of `CONTROLS`. Pictures in
a strip are buttons with `data-index`: `#images-results [data-index="0"]`; the chosen one has `aria-pressed="true"`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr

from m2m.demo.desk import Desk
from m2m.demo.engine import Engine, load_engine
from m2m.demo.images_tab import images_tab
from m2m.demo.steps_tab import steps_tab
from m2m.demo.uploads import Limits
from m2m.demo.views_tab import views_tab
from m2m.model_folder import shipped_models

CONTROLS = {
    "drop": "takes files: its input[type=file]",
    "given": "strip of the given pictures",
    "left": "moves the chosen given picture one place",
    "right": "",
    "remove": "the chosen given picture",
    "clear": "all given pictures",
    "examples": "strip of examples, in an accordion '-more' (images only); a click takes that set",
    "number": "slider: how many images to make (images, steps)",
    "generate": "",
    "stop": "",
    "status": "one line: what is going on, how it ended, or what was wrong",
    "preview": "the image that is being denoised",
    "results": "strip of the finished images",
    "use": "appends the chosen result to the given pictures",
    "again": "the chosen result with another seed (images only)",
    "download": "the ZIP, when there is one",
    "turnaround": "animation (views only)",
    "azimuths": "text: where the given pictures were taken from (views only)",
    "elevation": "slider, of the given pictures and the orbit (views only)",
    "mode": "radio: Around | One view (views only)",
    "count": "slider: views of an orbit (views only)",
    "azimuth": "slider of the one view (views only)",
    "height": "slider: elevation of the one view (views only)",
    "settings": "accordion around: ",
    "denoising": "slider: denoising steps",
    "guidance": "slider",
    "condition": "slider: guidance towards the camera or the position (views, steps)",
    "window": "slider: images seen at most; 0 is all",
    "policy": "radio: sliding | anchor (images only)",
    "seed": "number",
    "scheduler": "menu",
    "absent": "a line in the place of everything where the tab has no model (views, steps)",
}

TITLE = "Many-to-many images"
HEAD = "A few pictures in, as many further ones as you like out: same content, same style, no text."
SHIPPED_VIEWS, SHIPPED_STEPS = "tiny-novel-view", "tiny-visual-procedure"
# Seconds: how often files that Gradio keeps of its own are looked at, and how old they may become.
CLEANING = (300, 3600)


@dataclass(frozen=True)
class DemoOptions:
    """What the page serves. views_model, steps_model: None for the shipped one, if there is one."""

    model: str = "tiny-self"
    views_model: str | None = None
    steps_model: str | None = None
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, eq=False)
class Engines:
    """The loaded models; None where there is none for a tab."""

    images: Engine
    views: Engine | None
    steps: Engine | None


def load_engines(options: DemoOptions) -> Engines:
    """Load every model that the page serves. Raises UserError."""
    return Engines(
        load_engine(options.model, options.device),
        _task_engine(options.views_model, SHIPPED_VIEWS, "camera", options.device),
        _task_engine(options.steps_model, SHIPPED_STEPS, "position", options.device),
    )


def _task_engine(name: str | None, shipped: str, condition: str, device: str) -> Engine | None:
    if name is None and shipped not in shipped_models():
        return None
    return load_engine(name or shipped, device, condition)


def build_page(options: DemoOptions) -> gr.Blocks:
    """Load the models and build the page, ready to be launched inside `m2m.demo.visit_folder.demo_folder`."""
    return page_of(load_engines(options), options.limits)


def page_of(engines: Engines, limits: Limits) -> gr.Blocks:
    """The page over models that are loaded."""
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CLEANING, fill_width=True)
    with page:
        gr.HTML(f"<header><h1>{TITLE}</h1><p>{HEAD}</p></header>", elem_id="head")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Images", elem_id="tab-images"):
                images_tab(engines.images, limits)
            with gr.Tab("Novel views", elem_id="tab-views"):
                _task_tab("views", "novel views", views_tab, engines.views, limits)
            with gr.Tab("Procedures", elem_id="tab-steps"):
                _task_tab("steps", "procedures", steps_tab, engines.steps, limits)
        page.unload(_forgetter(page))
    return page


def _task_tab(
    tab: str, what: str, build: Callable[[Engine, Limits], gr.State], engine: Engine | None, limits: Limits
) -> None:
    if engine is not None:
        build(engine, limits)
        return
    advice = f"recipes/tiny_tasks.sh trains a tiny one; then: <code>m2m demo --{tab}-model FOLDER</code>"
    gr.HTML(f'<p class="m2m-empty">No model of {what} is loaded: {advice}</p>', elem_id=f"{tab}-absent")


def _forgetter(page: gr.Blocks) -> Callable[[gr.Request], None]:
    """What is called when a visitor's browser has closed the page: sampling ends, pictures and files go.

    Gradio itself would keep the session for another hour.
    """

    def forget(request: gr.Request) -> None:
        session = page.state_holder.session_data.pop(request.session_hash or "", None)
        for value in session.state_data.values() if session else ():
            if isinstance(value, Desk):
                value.leave()

    return forget
