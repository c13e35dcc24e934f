"""Novel views (section 8.5.1): pictures of an object in, pictures of the same object from other cameras out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from m2m.model.conditions import ConditionConfig
from m2m.tasks.cameras import relative_cameras, turned_cameras
from m2m.tasks.task import Task
from m2m.types import UserError

# Entries of rotations are sines and cosines already, and distances are near 1: no waves of them are needed.
CAMERA = ConditionConfig("camera", 12)


class NovelView(Task):
    """The condition is the camera relative to that of the first image; the views of an object have no order."""

    name = "novel_view"
    condition = CAMERA
    ordered = False

    def conditions(self, numbers: Tensor, stored: Tensor | None) -> Tensor:
        """``relative_cameras`` of the stored extrinsics ``[B, N, 12]``. UserError: the data hold none, or others."""
        cameras = _checked(stored)
        return torch.from_numpy(relative_cameras(cameras.cpu().numpy())).to(cameras.device)

    def eased(
        self, numbers: Tensor, stored: Tensor | None, share: float, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Cameras in the data's own world, where all fronts look one way, turned by up to share * 180 degrees.

        At first the camera alone tells which side is seen; the more the world is turned, the more the given views must.
        Without this a small model hardly finds out what azimuths are for (LOG.md).
        """
        cameras = _checked(stored)
        drawn = torch.stack([torch.rand((), generator=own, dtype=torch.float64) for own in generators])  # [B]
        angles = share * math.pi * (2 * drawn - 1)  # [B]
        return torch.from_numpy(turned_cameras(cameras.cpu().numpy(), angles.numpy())).to(cameras.device)


def _checked(stored: Tensor | None) -> Tensor:
    if stored is None:
        raise UserError("the task novel_view needs sets with cameras; 'm2m data objaverse' makes them")
    if stored.shape[-1] != CAMERA.dim:
        raise UserError(f"the task novel_view needs cameras of 12 numbers; these sets hold {stored.shape[-1]} an image")
    return stored
