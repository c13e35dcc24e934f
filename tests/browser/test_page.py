"""The page as visitors use it: a real server, a real browser, the shipped model."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.demo.page import CONTROLS
from m2m.loading import load_pipeline
from m2m.pipeline import M2MPipeline
from tests.browser.demo_server import Server
from tests.browser.visitor import PHONE, Visitor

# One server and one browser serve this file: give it to one worker (pytest -n --dist loadgroup or loadfile).
pytestmark = pytest.mark.xdist_group("browser")

Enter = Callable[..., Visitor]
STEPS = 4
ROOT = Path(__file__).parents[2]


@cache
def pipeline() -> M2MPipeline:
    pipe = load_pipeline("tiny-self", "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def made_by_the_pipeline(given: Sequence[Image.Image], count: int, seed: int) -> list[Image.Image]:
    return pipeline()(list(given), num_images=count, num_inference_steps=STEPS, seed=seed).images


def same(found: Sequence[Image.Image], wanted: Sequence[Image.Image]) -> bool:
    """The same pictures; a last digit may differ where the other process adds in another order."""
    return len(found) == len(wanted) and all(
        a.size == b.size and np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max() <= 2
        for a, b in zip(found, wanted, strict=True)
    )


def opened(paths: Sequence[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]


def test_pictures_in_images_out_and_the_zip_makes_them_again(enter: Enter, foxes: list[Path], tmp_path: Path) -> None:
    """The way of every visitor; a record that names other settings than those used would repeat something else."""
    visitor = enter()
    visitor.upload(*foxes[:3])
    visitor.wait_for("given", 3)
    assert same(visitor.seen("given"), opened(foxes[:3]))
    visitor.set(number=2, denoising=STEPS, seed=5)
    visitor.page.evaluate(
        """() => { window.previews = 0; new MutationObserver(() => {
            if (document.querySelector('#images-preview img')) window.previews += 1;
        }).observe(document.querySelector('#images-preview'), {childList: true, subtree: true}); }"""
    )
    visitor.generate(2)
    assert visitor.page.evaluate("window.previews") >= 2  # each image was seen while it was denoised
    images = visitor.seen("results")
    assert same(images, made_by_the_pipeline(opened(foxes[:3]), 2, seed=5))
    with zipfile.ZipFile(visitor.download(tmp_path)) as archive:
        archive.extractall(tmp_path / "zip")
    repeat(tmp_path / "zip")
    for name in ("000.png", "001.png"):
        assert (tmp_path / "zip/repeated" / name).read_bytes() == (tmp_path / "zip" / name).read_bytes()


def repeat(folder: Path) -> None:
    """Type what generation.json says."""
    command = shlex.split(json.loads((folder / "generation.json").read_text())["command"])
    assert command[0] == "m2m"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_stop_use_and_again(enter: Enter, foxes: list[Path], tmp_path: Path) -> None:
    """Stop that throws away what was finished; a reused result that is not what was shown; "again" that repeats."""
    visitor = enter()
    visitor.upload(foxes[0])
    visitor.wait_for("given", 1)
    visitor.set(number=12, denoising=STEPS, seed=1)
    visitor.press("generate")
    visitor.page.wait_for_function("document.querySelectorAll('#images-results [data-index]').length > 0")
    visitor.press("stop")
    line = visitor.wait_for_status("^Stopped")
    kept = visitor.seen("results")
    assert 1 <= len(kept) < 12
    assert line == f"Stopped: {len(kept)} of 12 finished"
    assert same(kept[:1], made_by_the_pipeline(opened(foxes[:1]), 1, seed=1))

    visitor.choose("results", 0)
    visitor.press("use")
    visitor.wait_for("given", 2)
    assert same(visitor.seen("given")[1:], kept[:1])

    visitor.choose("results", 0)
    visitor.press("again")
    visitor.wait_for("results", len(kept) + 1)
    visitor.wait_for_status("^1 image")
    assert not same(visitor.seen("results")[-1:], kept[:1])
    with zipfile.ZipFile(visitor.download(tmp_path)) as archive:
        assert {"000.png", "again-1/000.png", "again-1/generation.json"} <= set(archive.namelist())


def test_reorder_and_remove(enter: Enter, foxes: list[Path], croissants: list[Path]) -> None:
    """The order is the order of a procedure's steps; the wrong picture removed is the visitor's loss."""
    visitor = enter()
    first, second, third = files = [foxes[0], croissants[0], foxes[1]]
    visitor.upload(*files)
    visitor.wait_for("given", 3)
    visitor.choose("given", 2)
    visitor.press("left")
    visitor.part("given", '[data-index="1"][aria-pressed="true"]').wait_for()
    assert same(visitor.seen("given"), opened([first, third, second]))
    visitor.choose("given", 0)
    visitor.press("remove")
    visitor.wait_for("given", 2)
    assert same(visitor.seen("given"), opened([third, second]))
    visitor.press("clear")
    visitor.wait_for("given", 0)


def test_what_is_no_picture_is_one_line_and_the_others_stay(enter: Enter, foxes: list[Path], tmp_path: Path) -> None:
    """One bad file among good ones must cost neither them nor the page."""
    page = tmp_path / "page.png"
    page.write_text("<!DOCTYPE html><script>document.title = 'taken over'</script>")
    visitor = enter()
    visitor.upload(page, foxes[0])
    visitor.wait_for("given", 1)
    line = visitor.wait_for_status("page")
    assert line.startswith("'page.png' is no picture") and "\n" not in line and "/" not in line
    assert visitor.page.title() != "taken over"


def test_more_pictures_than_allowed_are_refused_in_one_line(enter: Enter, foxes: list[Path]) -> None:
    """Some come twice: the same content is one file to Gradio, and must not be removed with its first reading."""
    visitor = enter()
    visitor.upload(*foxes, *foxes, foxes[0])
    visitor.wait_for("given", 8)
    assert "8 pictures" in visitor.wait_for_status("given already")


def test_an_object_is_turned(enter: Enter, tmp_path: Path) -> None:
    """Novel views by the shipped model: a visitor who gets no views, no animation, or no record of the cameras."""
    visitor = enter()
    visitor.turn_to("views")
    visitor.upload(ROOT / "examples/views/box.png")
    visitor.wait_for("given", 1)
    visitor.set(count=2, denoising=2)
    visitor.generate(2)
    visitor.part("turnaround", "img").wait_for()
    with zipfile.ZipFile(visitor.download(tmp_path)) as archive:
        record = json.loads(archive.read("generation.json"))
        assert "turnaround.gif" in archive.namelist()
    assert record["model"]["name"] == "tiny-novel-view" and record["settings"]["num_images"] == 2
    assert np.shape(record["cameras"]["views"]) == (2, 3, 4)
    assert len(visitor.seen("results")) == 2


def test_two_visitors_at_once_do_not_mix(enter: Enter, foxes: list[Path], croissants: list[Path]) -> None:
    """State that is the page's and not the visitor's shows one visitor's pictures to the other."""
    visitors = [enter(), enter()]
    for visitor, files, seed in zip(visitors, (foxes[:2], croissants[:2]), (3, 4), strict=True):
        visitor.upload(*files)
        visitor.wait_for("given", 2)
        visitor.set(number=2, denoising=STEPS, seed=seed)
    for visitor in visitors:
        visitor.press("generate")
    for visitor, files, seed in zip(visitors, (foxes[:2], croissants[:2]), (3, 4), strict=True):
        visitor.wait_for_status("^2 images")
        assert same(visitor.seen("given"), opened(files))
        assert same(visitor.seen("results"), made_by_the_pipeline(opened(files), 2, seed))


def test_nothing_is_wider_than_a_phone(enter: Enter, foxes: list[Path]) -> None:
    """A page that scrolls sideways hides its buttons."""
    visitor = enter(PHONE)
    visitor.upload(*foxes)
    visitor.wait_for("given", 4)
    visitor.set(number=3, denoising=2)
    visitor.generate(3)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    for control in ("drop", "given", "generate", "stop", "results", "use", "again", "download", "status"):
        box = visitor.part(control).bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE[0], control
    take_screenshot(visitor, "phone")


def test_an_example_and_every_control_that_the_page_names(enter: Enter) -> None:
    """The names of the controls are what other programs and these tests hold on to."""
    visitor = enter()
    visitor.pictures("examples").first.click()
    visitor.wait_for("given", 3)
    visitor.set(number=3, denoising=10)
    take_screenshot(visitor, "desktop-start")
    visitor.generate(3)
    take_screenshot(visitor, "desktop")
    absent = ("only)", "(views", "(steps", "where the tab has no model")
    for control, meaning in CONTROLS.items():
        if "images" in meaning or not any(mark in meaning for mark in absent):
            assert visitor.part(control).count() == 1 or "condition" in control, control


def take_screenshot(visitor: Visitor, name: str) -> None:
    """Into the folder M2M_SCREENSHOTS, for somebody to look at."""
    folder = os.environ.get("M2M_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        visitor.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("path", ["/etc/passwd", "{cwd}/pyproject.toml", "../../etc/passwd", "{log}"])
def test_no_file_of_the_machine_is_served(server: Server, path: str) -> None:
    """Gradio serves any file of the working folder's unless it is told not to, and did so by accident before."""
    path = path.format(cwd=Path.cwd(), log=server.temporary.parent / "demo.log")
    for route in ("/gradio_api/file=", "/file=", "/gradio_api/stream/", "/static/", "/assets/"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(server.address + route + urllib.parse.quote(path), timeout=60)
        assert caught.value.code in (400, 403, 404, 405), route


def test_nothing_is_left_after_a_visit(enter: Enter, foxes: list[Path], server: Server) -> None:
    """Uploads and results that stay on the disk after the visitor has gone."""
    visitor = enter()
    before = kept_files(server)
    visitor.upload(*foxes[:2])
    visitor.wait_for("given", 2)
    visitor.set(number=1, denoising=2)
    visitor.generate(1)
    assert kept_files(server) != before  # the ZIP is there to be fetched
    visitor.leave()
    end = time.monotonic() + 60
    while kept_files(server) - before and time.monotonic() < end:
        time.sleep(0.2)
    assert kept_files(server) <= before


def kept_files(server: Server) -> set[Path]:
    """All files with content in the demo's temporary folder; gr.File leaves an empty one for every upload."""
    return {path for path in server.temporary.rglob("*") if path.is_file() and path.stat().st_size}
