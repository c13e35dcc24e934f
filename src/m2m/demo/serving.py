"""Serving the page: on one address of this machine, offline, with nothing of Gradio's that the page does not need."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from m2m.demo.look import CSS, theme
from m2m.demo.uploads import Limits
from m2m.types import UserError, first_line

# Visits that Gradio remembers; older ones are forgotten also where a browser never said that it left.
MOST_VISITS = 200
MOST_WAITING = 50
# No pages beside the one: no record of calls, no description of an interface, no server in another language.
PLAIN: dict[str, Any] = {
    "quiet": True,
    "ssr_mode": False,
    "mcp_server": False,
    "run_history": False,
    "enable_monitoring": False,
    "pwa": False,
    "footer_links": [],
    "show_error": False,
    "inbrowser": False,
}


def check_free(host: str, port: int) -> None:
    """Raise UserError if nobody can listen there. Asked before models are loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"port {port} of {host} cannot be used: {reason}; name another with --port") from error


@contextmanager
def serving(page: gr.Blocks, host: str, port: int, limits: Limits, share: bool = False) -> Iterator[str]:
    """Serve the page until the block is left; gives its address. Must be within `visit_folder.demo_folder`.

    Raises UserError if nobody can listen there, or if `share` is wanted and the internet gives no address.
    """
    check_free(host, port)
    page.queue(default_concurrency_limit=1, max_size=MOST_WAITING)
    try:
        _, local, shared = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            max_file_size=limits.bytes,
            state_session_capacity=MOST_VISITS,
            theme=theme(),
            css=CSS,
            **PLAIN,
        )
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(f"the page cannot be served at {host}:{port}: {reason}") from error
    try:
        yield shared or local
    finally:
        page.close(verbose=False)
