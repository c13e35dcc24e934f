"""The global random generators of a process as tensors: torch's of the CPU and of the GPU, numpy's and Python's."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The state of each generator of this process, on the CPU, by name: `cpu`, `numpy`, `python`, and `cuda`."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "cpu": torch.get_rng_state(),
        "numpy": _as_tensor([kind, np.asarray(keys).tolist(), *rest]),
        "python": _as_tensor(random.getstate()),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put generators into the states of `random_states`; one that is not named stays as it is."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "numpy" in states:
        np.random.set_state(tuple(_as_value(states["numpy"])))
    if "python" in states:
        version, words, gauss = _as_value(states["python"])
        random.setstate((version, tuple(words), gauss))


def _as_tensor(value: Any) -> Tensor:
    """Plain values as the bytes of their JSON, which keeps every digit of a float."""
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def _as_value(tensor: Tensor) -> Any:
    return json.loads(bytes(tensor.tolist()))
