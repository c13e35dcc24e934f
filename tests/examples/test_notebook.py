"""The notebook: it runs from top to bottom in the interpreter of the tests, and shows images."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.running import environment

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
SHOWS = "row("  # what a cell ends with that shows images


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[Image.Image]:
    """The pictures of a cell's output, decoded."""
    data = [output["data"] for output in cell.outputs if "data" in output and "image/png" in output["data"]]
    return [Image.open(io.BytesIO(base64.b64decode(each["image/png"]))) for each in data]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after it ran, in a kernel of this interpreter and this tree."""
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels/here"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "here", "language": "python", "env": environment()}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        where = {"metadata": {"path": str(EXAMPLES)}}
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="here", resources=where).execute()
    return notebook


def test_it_is_committed_without_outputs() -> None:
    """Bug: outputs of another day, and megabytes of them, in every change of a cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


def test_every_cell_ran_and_the_images_came_out(run: Any) -> None:
    """Bug: a notebook that was right once; or images that are one grey."""
    cells = code_cells(run)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    showing = [cell for cell in cells if cell.source.splitlines()[-1].startswith(SHOWS)]
    assert len(showing) == 6
    for cell in showing:
        (sheet,) = shown(cell)
        places = [sheet.crop((left, 0, left + sheet.height, sheet.height)) for left in range(0, sheet.width, 96)]
        assert len(places) >= 3
        assert all(max(high - low for low, high in place.getextrema()) > 20 for place in places), cell.source
