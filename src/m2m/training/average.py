"""The moving average of the weights: what is sampled from, and shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from m2m.training.parallel import local_part


class Average:
    """diffusers' `EMAModel` over this process's parts of the trained parameters, so that FSDP parts it as well.

    decay: its ceiling; see StepConfig. device: where it lies; empty: beside the parameters. The numbers are the same.
    """

    def __init__(self, trained: dict[str, nn.Parameter], decay: float, device: str = "") -> None:
        self._trained = trained
        self._device = torch.device(device) if device else None
        self._model = EMAModel(self._parts(), decay=decay, foreach=True)

    def step(self) -> None:
        """Follow the parameters, behind a step of the optimiser."""
        self._model.step(self._parts())

    def skip(self) -> None:
        """Count a step that moved nothing, so that the ramp of the decay follows from the step's number alone."""
        self._model.optimization_step += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their averages meanwhile, then again what was trained, to the bit."""
        parts = [local_part(parameter.detach()) for parameter in self._trained.values()]
        self._model.store(parts)
        self._model.copy_to(parts)
        try:
            yield
        finally:
            self._model.restore(parts)

    def tensors(self) -> dict[str, Tensor]:
        """The averages (this process's parts of them), by the names of the parameters."""
        return dict(zip(self._trained, self._model.shadow_params, strict=True))

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take over averages (parts, or sharded tensors), one a parameter, after `step` steps."""
        for name, own in self.tensors().items():
            own.copy_(local_part(tensors[name]))
        self._model.optimization_step = step

    def _parts(self) -> list[nn.Parameter]:
        # Parameters, for EMAModel merely copies what needs no gradient; they share memory with the trained ones.
        parts = (local_part(parameter.detach()) for parameter in self._trained.values())
        return [nn.Parameter(part if self._device is None else part.to(self._device)) for part in parts]
