"""The page over its handlers: what a visitor has on a tab, and that nothing of it outlives the visit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import gradio as gr

from m2m.cli.main import main
from m2m.demo.desk import Desk, Run
from m2m.demo.engine import Engine
from m2m.demo.given_panel import added, clear, move, remove
from m2m.demo.images_tab import example_sets
from m2m.demo.result_panel import chosen_result, sampled, use_as_context
from m2m.demo.sampling import Ticket
from m2m.demo.settings_panel import OWN, Choices, settings_panel
from m2m.demo.uploads import Limits
from m2m.demo.views_tab import ONE, cameras_of
from m2m.demo.visit_folder import demo_folder
from m2m.pipeline import M2MPipeline
from m2m.types import UserError
from tests.cli.running import environment
from tests.cli.sampling import save_pictures
from tests.demo.test_archive import images_engine  # noqa: F401
from tests.tiny import pictures

CHOICES = Choices(25, 4.0, None, 0, "sliding", 0, OWN)


def test_given_pictures_are_added_moved_and_removed(tmp_path: Path) -> None:
    """The order is what the model sees; an upload that stays on the disk outlives the visit."""
    desk, names = Desk(), save_pictures(tmp_path, 3)
    added(desk, names, Limits())
    assert not any(Path(name).exists() for name in names)
    first, second, third = desk.given
    desk.chosen_given = 2
    move(desk, -1)
    assert desk.given == [first, third, second] and desk.chosen_given == 1
    move(desk, 1)
    move(desk, 1)  # at the end already
    remove(desk)
    assert desk.given == [first, second]
    clear(desk)
    with pytest.raises(UserError, match="choose one of your pictures"):
        remove(desk)


def test_a_bad_file_among_good_ones_is_named_and_left_out(tmp_path: Path) -> None:
    """One broken file would otherwise cost the others, or show a path of the server."""
    (tmp_path / "bad.png").write_text("<html>")
    desk = Desk()
    _, text = added(desk, [*save_pictures(tmp_path, 1), str(tmp_path / "bad.png")], Limits())
    assert len(desk.given) == 1
    assert "bad.png" in text and str(tmp_path) not in text


def test_no_more_pictures_than_the_limit(tmp_path: Path) -> None:
    """Several uploads one after the other could otherwise fill the memory."""
    desk = Desk(given=pictures(2))
    _, text = added(desk, save_pictures(tmp_path, 1), Limits(count=2))
    assert len(desk.given) == 2 and "remove one first" in text


def test_what_is_made_is_shown_and_goes_with_the_visitor(images_engine: Engine) -> None:  # noqa: F811
    """Results, a ZIP or a sampling that stay after the visit; two visitors who share a list."""
    asked = Run(images_engine, (), CHOICES.settings(2))
    with demo_folder() as folder:
        desk, other = Desk(), Desk()
        desk.begin()
        screens = list(sampled(desk, lambda _: (asked, False), ()))
        assert len(desk.pictures()) == 2 and not other.pictures()
        assert Path(screens[-1].download["value"]).is_file()
        desk.chosen_result = 1
        use_as_context(desk, Limits())
        assert desk.given == [desk.pictures()[1]]
        desk.leave()
        assert not any(folder.iterdir()) and not desk.pictures() and not desk.given
        assert desk.begin().withdrawn


def test_a_mistake_is_one_line_on_the_page() -> None:
    """A traceback, or nothing at all."""

    def prepare(desk: Desk) -> None:
        raise UserError("<b>wrong</b>")

    (screen,) = sampled(Desk(ticket=Ticket()), prepare, ())  # type: ignore[arg-type]
    assert "&lt;b&gt;wrong" in screen.status
    with pytest.raises(UserError, match="choose a result first"):
        chosen_result(Desk())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denoising": 1e9}, "denoising steps"),
        ({"seed": -1}, "seed"),
        ({"scheduler": "os.system"}, "scheduler"),
        ({"window": "5"}, "window"),
        ({"guidance": float("nan")}, "guidance"),
    ],
)
def test_settings_that_the_page_does_not_offer_are_refused(change: dict, message: str) -> None:
    """A visitor can send what no slider says: a billion steps for one."""
    with pytest.raises(UserError, match=message):
        Choices(**{**CHOICES.__dict__, **change}).settings(1)


def test_the_page_begins_with_the_models_own_window(images_engine: Engine) -> None:  # noqa: F811
    """A page that says "0: all" for a model that would fade so; or a 0 that is the model's own, and no way to "all"."""
    pipe = M2MPipeline(**images_engine.pipe.components, default_window=1, default_window_policy="anchor")
    with gr.Blocks():
        panel = settings_panel("images", replace(images_engine, pipe=pipe))
        former = settings_panel("images", images_engine)
    assert [panel[3].value, panel[4].value] == [1, "anchor"] and [former[3].value, former[4].value] == [0, "sliding"]
    said = replace(CHOICES, window=1, policy="anchor").settings(1)
    assert (said.window, said.window_policy) == (1, "anchor")
    assert CHOICES.settings(1).window == "all"


def test_cameras_of_several_pictures_need_a_side_each() -> None:
    """Pictures from unknown sides would all be taken for the front."""
    assert cameras_of(2, ONE, 7, 60, 30, 20, "0, 90").views.shape == (1, 3, 4)
    with pytest.raises(UserError, match="2 pictures need 2 sides"):
        cameras_of(2, ONE, 7, 60, 30, 20, "0")


def test_the_examples_are_small_and_there() -> None:
    """Package data that was forgotten."""
    assert len(example_sets()) >= 3 and all(len(images) >= 3 for images in example_sets().values())


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Gradio's own traceback, after a minute of loading."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_and_its_folder(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """A folder of pictures that stays behind, or a server that does not end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "m2m", "demo", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    assert any(tmp_path.glob("m2m-demo-*"))
    os.kill(process.pid, number)
    assert process.wait(timeout=60) == code
    assert not any(tmp_path.glob("m2m-demo-*"))
    process.stdout.close()
