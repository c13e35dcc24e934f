"""What happens to steps whose loss or gradient is not finite: they are counted and recorded, and too many end the run.

The step itself has changed nothing then (`Optimisation.step`). `out/skipped.jsonl` says which samples it was: one bad
picture shows as one line, weights that diverge as line after line.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from m2m.checkpoint import save_tensors, write_json
from m2m.training.trackers import JsonLines
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.parallel import Processes
    from m2m.training.step import StepResult


class Guard:
    """Counts skipped steps. Every process has one, and tells it of every step.

    out: folder of the run. stop_after: so many in a row end the run. Attribute `skipped`: how many there were so far.
    """

    def __init__(self, out: str | Path, processes: Processes, stop_after: int) -> None:
        self.skipped = 0
        self._in_row = 0
        self._stop_after = stop_after
        self._processes = processes
        self._record_file = Path(out) / "skipped.jsonl"
        self._folder = Path(out) / "nonfinite"

    def check(self, step: int, result: StepResult) -> None:
        """Take in a step, `step` being the number of steps done.

        Raises UserError, in every process, after too many skipped ones in a row; `out/nonfinite` then holds the batches
        of the last, those of every process.
        """
        if result.finite:
            self._in_row = 0
            return
        self.skipped += 1
        self._in_row += 1
        self._record(step, result)
        if self._in_row == self._stop_after:
            self._stop(step, result)

    def _record(self, step: int, result: StepResult) -> None:
        keys = [key for batch in result.batches for key in batch.keys]
        rows = self._processes.gather_objects({"rank": self._processes.rank, "loss": _plain(result), "keys": keys})
        if self._processes.is_main:
            # Without what a killed run recorded of this step and later ones, for those come again.
            lines = JsonLines(self._record_file, step - 1)
            for row in rows:
                lines.append(step, row)
            lines.close()

    def _stop(self, step: int, result: StepResult) -> None:
        from safetensors import SafetensorError

        folder = self._folder / f"step-{step:08d}"
        try:
            self._save(folder, step, result)
            where = f"the batches of the last are in '{folder}'"
        except (OSError, SafetensorError) as error:
            where = f"'{folder}' cannot be written: {error}"
        # A launcher ends all processes when one has failed: first, every one must have written its part.
        self._processes.barrier()
        raise UserError(
            f"loss or gradient not finite {self._in_row} steps in a row, up to step {step}: lower learning_rate, or "
            f"use precision=float32; {where}, the samples of all in '{self._record_file}'"
        )

    def _save(self, folder: Path, step: int, result: StepResult) -> None:
        rank = self._processes.rank
        for number, batch in enumerate(result.batches):
            path = folder / f"rank-{rank}-batch-{number}"
            facts = {"step": step, "rank": rank, "loss": _plain(result), "keys": list(batch.keys)}
            save_tensors(batch.tensors(), path.with_suffix(".safetensors"))
            write_json(path.with_suffix(".json"), {**facts, "cursor": batch.cursor})


def _plain(result: StepResult) -> float | str:
    """The loss of this process; JSON has no name for what is not finite, so that is a text."""
    loss = float(result.loss)
    return loss if math.isfinite(loss) else str(loss)
