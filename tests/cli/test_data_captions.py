"""`m2m data captions` as a user calls it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.data.captions.store import CaptionStore
from tests.cli.running import environment, one_error_line, run_m2m

CC12M_FORM = Path(__file__).parents[1] / "data" / "captions" / "cc12m_form.tsv"
LINES = 60_000


def large_file(path: Path) -> Path:
    path.write_text("".join(f"https://a.b/{i}.jpg\ta photo of {i} cats on mat {i % 977}\n" for i in range(LINES)))
    return path


def command(source: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "m2m", "data", "captions", str(source), "--out", str(out), "--test", "1000"]


def test_a_table_says_what_was_kept(tmp_path: Path) -> None:
    """What was left out, and why, must be seen without opening a file."""
    arguments = ("data", "captions", CC12M_FORM, "world:mini:train:50", "--out", "out", "--test", "30")
    result = run_m2m(*arguments, "--validation", "10", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.replace("-", " ").splitlines()}
    assert table["read"] == "798 cc12m_form.tsv, world:mini:train:50"
    assert table["too_long"] == "3 more than 77 CLIP tokens"
    assert table["kept"] == "784"
    assert table["test"].startswith("30 ") and table["validation"].startswith("10 ")
    assert "784 captions: out" in result.stdout
    store = CaptionStore.open(tmp_path / "out")
    assert (store.count("train"), store.count("validation"), store.count("test")) == (744, 10, 30)
    again = run_m2m(*arguments, "--validation", "10", cwd=tmp_path)
    assert again.returncode == 0 and "was there already" in again.stdout
    assert "test is 30, not 31" in one_error_line(run_m2m(*arguments[:-1], "31", "--validation", "10", cwd=tmp_path))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """A traceback tells a user nothing; and the paper's 10,000 test captions are more than a small file has."""
    assert "does not exist" in one_error_line(run_m2m("data", "captions", "no.tsv", "--out", "out", cwd=tmp_path))
    message = one_error_line(run_m2m("data", "captions", CC12M_FORM, "--out", "out", cwd=tmp_path))
    assert "test and validation ask for 10000" in message
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    """It is no part of the plain install."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('no pyarrow here')")
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    result = subprocess.run(
        command(CC12M_FORM, tmp_path / "out"), env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "pip install 'm2m-diffusion[data]'" in one_error_line(result)


@pytest.mark.parametrize("seen", ["rows/ff.rows", "train-00000.parquet"])
def test_killed_and_run_again(tmp_path: Path, seen: str) -> None:
    """A run killed while it reads, or while it writes, leaves no folder that looks whole, and the next run no trace."""
    source, out = large_file(tmp_path / "a.tsv"), tmp_path / "out"
    process = subprocess.Popen(command(source, out), env=environment(), stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(f".out.*.partial/{seen}")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    subprocess.run(command(source, out), env=environment(), stdout=subprocess.DEVNULL, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "out"]
    names = ["summary.json", "test-00000.parquet", "train-00000.parquet"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert CaptionStore.open(out).count("train") == LINES - 1000


@pytest.mark.parametrize("megabytes", [0.01, 0.2])
def test_a_full_disk_is_one_line(tmp_path: Path, megabytes: float) -> None:
    """While rows are laid aside, and while parquet is written. A limit on file sizes stands for the full disk."""
    source, out = large_file(tmp_path / "a.tsv"), tmp_path / "out"
    limit = int(megabytes * 1_000_000)
    result = subprocess.run(
        command(source, out),
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    message = one_error_line(result)
    assert f"captions folder '{out}' cannot be written" in message and "File too large" in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]
