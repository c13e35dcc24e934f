"""What a launch of several processes says when it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from m2m.cli.main import main
from tests.cli.running import environment


def test_a_mistake_of_all_processes_is_one_line(tmp_path: Path) -> None:
    """Bug: a misspelt key is said eight times on eight GPUs. The launcher's report comes on top, none of it at a
    line's beginning."""
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "m2m.cli", "train", "learning_rte=1"]
    command = [sys.executable, *launch]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=600)
    assert run.returncode != 0
    said = [line for line in run.stderr.splitlines() if line.startswith("m2m: ")]
    assert len(said) <= 1 and "did you mean 'learning_rate'" in run.stderr, run.stderr
    assert "exitcode  : 2" in run.stderr


def test_what_one_process_alone_meets_is_in_the_launchers_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a damaged shard that only the second process reads, and of which nobody is told."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    report = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
    for rank, said in (("1", ""), ("0", "m2m: ")):
        monkeypatch.setenv("RANK", rank)
        assert main(["train", "learning_rte=1"]) == 2
        assert capsys.readouterr().err[:5] == said
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=2, error_file=str(report))
    assert failure.message["extraInfo"]["py_callstack"] == json.loads(report.read_text())["message"]["message"]
    assert "did you mean 'learning_rate'" in str(failure.message)
