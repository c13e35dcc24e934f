"""Pictures with known answers: plain blocks on white, views of a made-up object, and sets of them on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2m.data.cameras import look_at_origin
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.tasks.task_sets import Order, TaskSets
from m2m.tasks.known import find_task
from tests.data.reading.toy_shards import write_folder, write_pictures

SIDE = 64
RED, GREEN, BLUE = (220, 40, 40), (40, 180, 60), (40, 60, 220)
Block = tuple[int, int, tuple[int, int, int]]  # left and top of 16 x 16 pixels, and their colour


def picture(*blocks: Block) -> Tensor:
    """uint8 [64, 64, 3]: the blocks on white, later ones over earlier ones."""
    drawn = torch.full((SIDE, SIDE, 3), 255, dtype=torch.uint8)
    for left, top, colour in blocks:
        drawn[top : top + 16, left : left + 16] = torch.tensor(colour, dtype=torch.uint8)
    return drawn


def procedure(steps: int, shift: int = 0) -> Tensor:
    """Blocks that are added one a step, uint8 [steps, 64, 64, 3]; shift: moves all, so that no two are alike."""
    colours = (RED, GREEN, BLUE)
    blocks = [(16 * (n % 4), 4 * shift + 16 * (n // 4), colours[n % 3]) for n in range(steps)]
    return torch.stack([picture(*blocks[: n + 1]) for n in range(steps)])


def procedures(folder: Path, lengths: Sequence[int], given: int = 2, images: int = 2) -> EvaluationSets:
    """Sets of as many steps as `lengths` says."""
    pictures = {f"set{n:03d}": list(procedure(length, n).numpy()) for n, length in enumerate(lengths)}
    task = TaskSets(find_task("visual_procedure"))
    return EvaluationSets(write_pictures(folder, pictures), given=given, real=max(lengths), task=task)


def cameras(views: int, shift: float = 0.0) -> list[list[float]]:
    """Rows of 12 numbers: cameras around the object, out of order."""
    turns = np.random.default_rng(views).permutation(views) * 360 / views + shift
    found = look_at_origin(turns, 20.0, 1.5)
    return [row.reshape(-1).tolist() for row in found]


def objects(
    folder: Path, sets: int = 2, views: int = 5, given: int = 1, order: Order | None = None, shift: float = 0.0
) -> EvaluationSets:
    """Objects with cameras; their pictures tell set and number (`toy_picture`)."""
    names = [f"set{n:03d}" for n in range(sets)]
    conditions: dict[str, Any] = {name: {"name": "camera", "values": cameras(views, shift)} for name in names}
    data = write_folder(folder, {name: range(views) for name in names}, conditions=conditions)
    task = TaskSets(find_task("novel_view"), views - given, order)
    return EvaluationSets(data, given=given, real=views - given, size=64, task=task)
