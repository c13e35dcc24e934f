"""`m2m demo`: the models in a web page on this machine."""

from __future__ import annotations

import os
import threading
from typing import Annotated

import typer

from m2m.cli.sampling_options import Device
from m2m.types import UserError


def demo(
    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or a shipped model: tiny-self, tiny-dino.")
    ] = "tiny-self",
    views_model: Annotated[
        str | None, typer.Option(help="A model of novel views.  [default: the shipped one, if there is one]")
    ] = None,
    steps_model: Annotated[
        str | None, typer.Option(help="A model of procedures.  [default: the shipped one, if there is one]")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Let Gradio's servers pass on a public address, for a week at most.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Open a web page to drop pictures on, and watch further ones being made. Ctrl-C ends it.

    Nothing leaves this machine, and what visitors drop and make is gone when they close the page.

    Example:
      m2m demo
      m2m demo --model runs/my-set/model --port 8000
    """
    from m2m.demo.memory import use_one_arena

    use_one_arena()  # before gradio and torch begin threads
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("the web page needs gradio: pip install 'm2m-diffusion[demo]'") from error
    from m2m.demo.page import DemoOptions, build_page
    from m2m.demo.serving import check_free, serving
    from m2m.demo.visit_folder import demo_folder

    check_free(host, port)
    options = DemoOptions(model, views_model, steps_model, device)
    with demo_folder():
        page = build_page(options)
        with serving(page, host, port, options.limits, share) as address:
            print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
            threading.Event().wait()
