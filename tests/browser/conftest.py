"""One server and one browser for all tests of this folder; without a browser they are skipped, and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.demo_server import Server, browser, browser_path, demo_server
from tests.browser.visitor import DESKTOP, Visitor

Enter = Callable[..., Visitor]


def pytest_configure(config: pytest.Config) -> None:
    """Known also where pytest-xdist, whose mark it is, is not used."""
    config.addinivalue_line("markers", "xdist_group: tests for one worker of pytest-xdist")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = browser_path()
    missing = [name for name in ("playwright", "gradio") if find_spec(name) is None]
    if path is None:
        pytest.skip("no browser: install chromium, or name one by M2M_CHROMIUM")
    if missing:
        pytest.skip(f"no {missing[0]}: pip install 'm2m-diffusion[dev,demo]'")
    with browser(path) as opened:
        yield opened


@pytest.fixture(scope="session")
def server(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with demo_server(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def enter(chromium: Any, server: Server) -> Iterator[Enter]:
    """Opens the page for a new visitor; at the end all leave, and none must have met an error or called elsewhere."""
    visitors: list[Visitor] = []

    def new(size: tuple[int, int] = DESKTOP) -> Visitor:
        visitors.append(Visitor(chromium, server.address, size))
        return visitors[-1]

    yield new
    for visitor in visitors:
        visitor.leave()
        assert visitor.errors == []
        assert visitor.hosts <= {"127.0.0.1", ""}  # "": data: addresses


@pytest.fixture(scope="session")
def foxes() -> list[Path]:
    """Four pictures of one set, as files to upload."""
    return _example("foxes")


@pytest.fixture(scope="session")
def croissants() -> list[Path]:
    return _example("croissants")


def _example(name: str) -> list[Path]:
    return sorted(Path(str(files("m2m"))).glob(f"demo/examples/*{name}*/*.png"))
