"""A published model in plain diffusers, from the folder and from a hub, in interpreters without m2m imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from m2m.model_folder import find_model
from m2m.publishing.stage import Publication, stage
from tests.cli.running import environment
from tests.publishing.stand_in import hub, run_with

SAMPLE = "([], num_images=1, num_inference_steps=2, output_type='np').images"
# Plain diffusers first, so that nothing has imported m2m before it.
COMPARE = f"""
import sys
from diffusers import DiffusionPipeline
name = sys.argv[1]
pipe = DiffusionPipeline.from_pretrained(name, custom_pipeline=sys.argv[2], trust_remote_code=True)
plain = pipe{SAMPLE}
from m2m import M2MPipeline, load_pipeline
for ours in (M2MPipeline.from_pretrained(name), load_pipeline(name), load_pipeline("tiny-self")):
    assert (ours{SAMPLE} == plain).all()
print("same", type(pipe) is M2MPipeline)
"""
UPLOAD = """
import sys
from pathlib import Path
from m2m.publishing.upload import upload
print(upload(Path(sys.argv[1]), "jane/cats", private=False))
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged") / "tiny"
    stage(find_model("tiny-self"), Publication("jane/cats"), folder)
    return folder


def run(code: str, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    own = environment() | {"HF_HOME": str(home)}
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=600)


def test_plain_diffusers_loads_the_folder_to_the_same_images(staged: Path, tmp_path: Path) -> None:
    """The repository works in m2m alone, or makes other images elsewhere."""
    result = run(COMPARE, tmp_path, staged, staged)  # "pipeline" is what the hub's test gives
    assert result.stdout == "same True\n", result.stderr


def test_without_the_package_one_line_says_what_to_install(staged: Path, tmp_path: Path) -> None:
    """diffusers alone would advise to install m2m, which is somebody else's package."""
    hidden = "import sys\nsys.modules['m2m'] = None\n"
    result = run(hidden + COMPARE, tmp_path, staged, "pipeline")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == "ImportError: this model needs the package m2m-diffusion: pip install m2m-diffusion"
    assert "pip install m2m`" not in result.stderr


def test_pushed_to_a_hub_and_loaded_from_it(staged: Path, tmp_path: Path) -> None:
    """diffusers refuses a repository, unlike a folder, where a component's class is none that it knows."""
    with hub() as server:
        pushed = run_with(server.address, tmp_path, UPLOAD, staged)
        assert pushed.stdout == f"{server.address}/jane/cats\n", pushed.stderr
        loaded = run_with(server.address, tmp_path, COMPARE, "jane/cats", "pipeline")
        assert loaded.stdout == "same True\n", loaded.stderr
    own = {str(path.relative_to(staged)): path.read_bytes() for path in staged.rglob("*") if path.is_file()}
    assert server.files == own
    assert server.deleted == []  # the model shows no grids: what else the repository holds is not ours


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "the hub does not know your token: log in with"),
        (403, "you may not write to 'jane/cats'"),
        (0, "the hub cannot be reached for 'jane/cats'"),
    ],
)
def test_refusals_are_one_line(status: int, expected: str, tmp_path: Path) -> None:
    """A traceback of the hub's client, through its HTTP library's, for a token that has run out."""
    (tmp_path / "model").mkdir()
    with hub(status or 200) as server:
        address = server.address if status else "http://127.0.0.1:9"
        result = run_with(address, tmp_path, UPLOAD, tmp_path / "model")
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"m2m.types.UserError: {expected}"), result.stderr
    assert server.files == {}
