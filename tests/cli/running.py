"""The command line as a user calls it: a process of its own, with its exit code, stdout and stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def environment() -> dict[str, str]:
    """One thread, no hub, the package from this tree, and a terminal of known width."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}


def run_m2m(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`m2m ARGUMENTS`, to its end. The limit is for what hangs: on a busy machine, loading torch takes a minute."""
    command = [sys.executable, "-m", "m2m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=cwd, timeout=600)


def one_error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a run that ended in a mistake of the user: exit code 2, one line, no traceback."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("m2m: "), result.stderr
    return result.stderr
