"""The given pictures of a tab: drop them, choose one, move it, remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from m2m.demo.desk import Desk
from m2m.demo.picture_html import TELL_NUMBER, line, strip
from m2m.demo.uploads import Limits, read_upload
from m2m.types import UserError

# What acts at once: neither queued behind another visitor's sampling nor callable from outside the page.
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
EMPTY = "No pictures yet."


@dataclass(frozen=True)
class GivenPanel:
    """The components that others write to: the strip, and the tab's line of text."""

    desk: gr.State
    pictures: gr.HTML
    status: gr.HTML


def complaint(error: UserError) -> str:
    """The tab's line of text when a visitor asked for what cannot be."""
    return line(str(error), wrong=True)


def given_strip(desk: Desk) -> str:
    return strip(desk.given, desk.chosen_given, EMPTY, "given picture")


def given_panel(tab: str, desk: gr.State, status: gr.HTML, limits: Limits, ordered: bool = False) -> GivenPanel:
    """Build and wire the panel. ordered: the pictures are steps, in their order."""
    what = "Pictures of the steps so far, in order" if ordered else "Your pictures"
    gr.HTML(line(f"{what}, up to {limits.count}"))
    drop = gr.File(
        label=what,
        file_count="multiple",
        file_types=["image"],
        height=96,
        show_label=False,
        elem_id=f"{tab}-drop",
        elem_classes="m2m-drop",
    )
    pictures = gr.HTML(strip([], None, EMPTY, ""), js_on_load=TELL_NUMBER, elem_id=f"{tab}-given")
    with gr.Row(elem_classes="m2m-tools"):
        buttons = {
            name: gr.Button(text, size="sm", min_width=60, elem_id=f"{tab}-{name}")
            for name, text in (("left", "← Left"), ("right", "Right →"), ("remove", "Remove"), ("clear", "Clear"))
        }
    panel = GivenPanel(desk, pictures, status)

    def add(desk: Desk, paths: list[str] | None) -> tuple[Any, str, str]:
        return None, *added(desk, paths or [], limits)

    # Not queued: reading one takes well under a second, and a visitor must not wait for another's sampling.
    drop.upload(add, [desk, drop], [drop, pictures, status], **AT_ONCE)
    pictures.select(_choose, desk, pictures, **AT_ONCE)
    changes: dict[str, Callable[[Desk], None]] = {
        "left": partial(move, by=-1),
        "right": partial(move, by=1),
        "remove": remove,
        "clear": clear,
    }
    for name, change in changes.items():
        buttons[name].click(partial(_changed, change=change), desk, [pictures, status], **AT_ONCE)
    return panel


def added(desk: Desk, paths: list[str], limits: Limits) -> tuple[str, str]:
    """Take uploaded files, and remove them: those that are no pictures are named, the others stay.

    Returns the strip and the line of text.
    """
    problems = []
    for path in paths:
        try:
            check_room(desk, limits)
            picture = read_upload(path, limits)
            desk.given = [*desk.given, picture]
        except UserError as error:
            problems.append(complaint(error))
    for path in paths:  # after all are read: a picture that is given twice is one file
        Path(path).unlink(missing_ok=True)
    return given_strip(desk), problems[0] if problems else ""


def check_room(desk: Desk, limits: Limits) -> None:
    """Raise UserError if no further picture may be given."""
    if len(desk.given) >= limits.count:
        raise UserError(f"{limits.count} pictures are given already; remove one first")


def _chosen(desk: Desk) -> int:
    """The number of the chosen given picture. Raises UserError if none is chosen."""
    if desk.chosen_given is None or desk.chosen_given >= len(desk.given):
        raise UserError("choose one of your pictures first: click it")
    return desk.chosen_given


def _choose(desk: Desk, event: gr.EventData) -> str:
    number = event.index
    desk.chosen_given = number if isinstance(number, int) and 0 <= number < len(desk.given) else None
    return given_strip(desk)


def _changed(desk: Desk, change: Callable[[Desk], None]) -> tuple[str, str]:
    """The strip and the line of text after a change of the given pictures."""
    try:
        change(desk)
    except UserError as error:
        return given_strip(desk), complaint(error)
    return given_strip(desk), line("")


def move(desk: Desk, by: int) -> None:
    """Move the chosen picture so many places to the right, as far as there are. Raises UserError: none is chosen."""
    number = _chosen(desk)
    place = min(max(0, number + by), len(desk.given) - 1)
    moved = list(desk.given)
    moved.insert(place, moved.pop(number))
    desk.given, desk.chosen_given = moved, place


def remove(desk: Desk) -> None:
    """Take the chosen picture away. Raises UserError: none is chosen."""
    number = _chosen(desk)
    desk.given, desk.chosen_given = desk.given[:number] + desk.given[number + 1 :], None


def clear(desk: Desk) -> None:
    """Take all given pictures away."""
    desk.given, desk.chosen_given = [], None
