"""The package as a library: what a user's own script does, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.running import environment
from tests.tiny import tiny_pipeline


def test_a_saved_pipeline_loads_in_a_fresh_process(tmp_path: Path) -> None:
    """diffusers loads components from imported modules only: one that nothing has imported yet cannot be found."""
    tiny_pipeline("self").save_pretrained(tmp_path)
    script = (
        "import sys; from m2m import M2MPipeline\n"
        "pipe = M2MPipeline.from_pretrained(sys.argv[1])\n"
        "print(type(pipe.model).__name__, type(pipe.vae).__name__)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600, check=False)
    assert run.stdout == "M2MModel TinyAutoencoder\n", run.stderr
