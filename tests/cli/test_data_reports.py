"""`m2m data verify`, `stats`, `preview` and `plan` as a user calls them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from m2m.cli.data.repairs import run_repair
from m2m.cli.main import main
from m2m.data.factory.build import build
from m2m.data.factory.folder import Failure
from m2m.data.factory.recipes import open_source
from m2m.data.factory.repair import RepairReport
from m2m.data.factory.settings import BuildSettings
from tests.cli.running import environment, one_error_line, run_m2m
from tests.data.factory.making import captions_folder, contents, world_recipe
from tests.data.shards.making import flip
from tests.tiny import tiny_pipeline

FIRST, SECOND = "shard-000000-000-005", "shard-000001-000-005"


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("reports") / "captions", count=5)


@pytest.fixture(scope="module")
def whole(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 sets of 5 images of 32 pixels in shards of 3 and 2."""
    out = tmp_path_factory.mktemp("whole") / "mis"
    source = open_source(world_recipe(captions, size=32))
    build(source, BuildSettings(out=out, images=(0, 5), sets_per_shard=3))
    return out


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "mis"))


def test_verify_says_that_all_is_well(whole: Path) -> None:
    """Silence may mean that nothing was looked at."""
    result = run_m2m("data", "verify", whole)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("2 shards, 5 sets, ") and result.stdout.endswith("all as the manifest states\n")


def test_verify_lists_what_is_wrong_and_repair_mends_it(folder: Path, whole: Path, captions: Path) -> None:
    """A script goes by the exit code: 1 while something is wrong, 0 once nothing is."""
    flip(folder / f"{SECOND}.tar", 1500)
    (folder / f"{FIRST}.tar").unlink()
    damaged = run_m2m("data", "verify", folder, "--no-decode")
    assert damaged.returncode == 1
    *findings, summary = damaged.stdout.splitlines()
    assert findings[0].startswith(f"{FIRST}: ") and f"{SECOND}, set " in findings[-1]
    assert summary.endswith("3 findings, 2 damaged shards")
    repaired = run_m2m("data", "verify", folder, "--repair", "--captions", captions)
    assert repaired.returncode == 0, repaired.stderr
    assert repaired.stdout.endswith("2 of 2 damaged shards repaired: the bytes are the manifest's again\n")
    assert contents(folder) == contents(whole)


def test_what_a_repair_cannot_mend_remains_a_finding(folder: Path, captions: Path) -> None:
    """A stray shard is nobody's to remove but the user's; exit code 0 would hide it."""
    flip(folder / f"{SECOND}.tar", 1500)
    (folder / "stray.tar").touch()
    result = run_m2m("data", "verify", folder, "--repair", "--captions", captions)
    assert result.returncode == 1
    assert "1 of 1 damaged shards repaired" in result.stdout and "still wrong: 1 finding\n" in result.stderr


def test_latents_are_repaired_from_their_pictures(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encoder, size, dtype and batch come from the folder; another autoencoder of the same shape is refused."""
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        next(pipe.vae.parameters()).add_(0.1)
    pipe.save_pretrained(tmp_path / "other")
    latents = tmp_path / "latents"
    assert main(["data", "encode", str(whole), "--model", str(tmp_path / "model"), "--out", str(latents)]) == 0
    before = contents(latents)
    flip(latents / f"{SECOND}.tar", 600)
    repair = ["data", "verify", str(latents), "--repair", "--pictures", str(whole), "--device", "cpu", "--autoencoder"]
    capsys.readouterr()
    assert main([*repair, str(tmp_path / "other" / "vae")]) == 2
    assert "encoders.latents is" in capsys.readouterr().err
    assert main([*repair, str(tmp_path / "model" / "vae")]) == 0
    assert contents(latents) == before


def test_other_bytes_are_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    """Who sees "not repaired" alone will try again, and again."""
    report = RepairReport(repaired=(FIRST,), different=(SECOND,), left=(), failed=(Failure("x", 3, "KeyError: y"),))
    assert run_repair(lambda names, stop: report, [FIRST, SECOND, "x"]) == {FIRST}
    captured = capsys.readouterr()
    assert captured.out.startswith("1 of 3 damaged shards repaired")
    assert "x failed: KeyError: y" in captured.err
    assert f"left as they are: {SECOND}. One of these has another version" in captured.err and "pillow " in captured.err


def test_repair_asks_for_the_captions_before_it_reads_anything(folder: Path) -> None:
    """After hours of reading, the option comes too late."""
    assert "--captions" in one_error_line(run_m2m("data", "verify", folder, "--repair"))


def test_mistyped_folders_are_one_line(tmp_path: Path) -> None:
    """A traceback for a typing error."""
    nowhere = tmp_path / "nowhere"
    for arguments in (("verify", nowhere), ("verify", nowhere, "--repair"), ("stats", nowhere), ("preview", nowhere)):
        assert str(nowhere) in one_error_line(run_m2m("data", *arguments))


def test_stats_of_two_folders(whole: Path, folder: Path, tmp_path: Path) -> None:
    """Two folders of one name must not be shown as one."""
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    result = run_m2m("data", "stats", whole, folder, "--json", figures, "--plot", plot)
    assert result.returncode == 0, result.stderr
    rows = {line[:18].strip(): line[18:].split() for line in result.stdout.splitlines()[1:]}
    assert rows["sets"] == ["5", "5"] and rows["images"] == ["25", "25"]
    assert [values["images"] for values in json.loads(figures.read_text()).values()] == [25, 25]
    with Image.open(plot) as image:
        assert image.format == "PNG" and image.width > 1000
    assert "twice" in one_error_line(run_m2m("data", "stats", whole, whole))


def test_stats_of_a_damaged_folder_say_what_is_left_out(folder: Path) -> None:
    """Counts without the damaged shard, taken for those of the folder."""
    flip(folder / f"{SECOND}.tar", 5)
    result = run_m2m("data", "stats", folder)
    assert result.returncode == 1
    assert "left out" in result.stderr and SECOND in result.stderr


def test_files_that_cannot_be_written_are_one_line(whole: Path, tmp_path: Path) -> None:
    """A traceback after the work is done."""
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "x.png"
    for option in ("--plot", "--json"):
        result = run_m2m("data", "stats", whole, option, place)
        assert result.returncode == 2 and f"{option} '{place}' cannot be written" in result.stderr
    assert f"--out '{place}' cannot be written" in one_error_line(run_m2m("data", "preview", whole, "--out", place))
    assert ".png" in one_error_line(run_m2m("data", "preview", whole, "--out", tmp_path / "sheet.jpg"))


def test_preview_writes_sheets(whole: Path, tmp_path: Path) -> None:
    """The second sheet over the first."""
    result = run_m2m("data", "preview", whole, "--per-sheet", "3", "--cell", "32", "--out", tmp_path / "sheet.png")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(tmp_path / name) for name in ("sheet.png", "sheet-2.png")]
    heights = [Image.open(path).height for path in result.stdout.split()]
    assert heights[0] > heights[1]


def test_plan_without_options_is_the_papers() -> None:
    """57,000 A100-hours and 32 TB: the figures that everybody will compare."""
    result = run_m2m("data", "plan")
    assert result.returncode == 0, result.stderr
    for figure in ("305,929,675 images", "56,937 GPU-hours", "32.0 TB"):
        assert figure in result.stdout


def test_plan_counts_captions_and_measures_the_generator(captions: Path) -> None:
    """A plan by the paper's A100 for a machine that is not one."""
    options = ("--images-per-set", "8", "--format", "webp", "--quality", "90")
    result = run_m2m("data", "plan", "--captions", captions, "--measure", "--generator", "world:mini", *options)
    assert result.returncode == 0, result.stderr
    assert "measured   world:mini on this machine" in result.stdout
    assert "5 sets x 8 = 40 images of 64 px" in result.stdout
    assert "0.67 s" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--measure",), "--generator"),
        (("--format", "gif"), "gif"),
        (("--seconds", "0"), "seconds"),
        (("--captions", "nowhere"), "nowhere"),
    ],
)
def test_plans_that_cannot_be_made_are_one_line(arguments: tuple[str, ...], word: str) -> None:
    """A plan of NaN, or a traceback."""
    assert word in one_error_line(run_m2m("data", "plan", *arguments))


def test_looking_at_shards_loads_no_torch() -> None:
    """Verifying on a machine that only stores the data must need neither torch nor seconds to start."""
    imports = "; ".join(f"import m2m.cli.data.{name}" for name in ("verify", "stats", "preview", "plan"))
    code = f"import sys; {imports}; print({{'torch', 'diffusers', 'ray', 'pyarrow', 'matplotlib'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert result.stdout == "set()\n", result.stderr
