"""The moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn

from m2m.training.average import Average


def followed(module: nn.Module, device: str = "", decay: float = 0.9, skipped: int | None = None) -> Average:
    """The average over ten steps in which every weight grows by one; that of step `skipped` counts without moving."""
    average = Average(dict(module.named_parameters()), decay, device)
    for step in range(10):
        if step == skipped:
            average.skip()
            continue
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 1
        average.step()
    return average


def test_it_follows_as_said() -> None:
    """Guards against an average that spans all of the run, and one that merely copies (no gradient, no averaging)."""
    module = nn.Linear(2, 2)
    start = module.weight.detach().clone()
    average = followed(module)
    expected = start + 1  # the first step is taken as it is
    for step in range(1, 10):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (start + step + 1)
    assert torch.allclose(average.tensors()["weight"], expected, atol=1e-5)
    assert list(average.tensors()) == ["weight", "bias"]


def test_weights_are_averaged_meanwhile_only() -> None:
    """Guards against samples that leave averaged weights in the run."""
    module = nn.Linear(2, 2)
    average = followed(module)
    trained = module.weight.detach().clone()
    with average.averaged():
        assert torch.equal(module.weight, average.tensors()["weight"]) and not torch.equal(module.weight, trained)
    assert torch.equal(module.weight, trained)


def test_in_main_memory_the_numbers_are_the_same() -> None:
    """Guards against an average on the CPU that lags a step behind, or shares memory with the weights."""
    for other in ("", "cpu"):
        torch.manual_seed(0)
        tensors = followed(nn.Linear(2, 2), other).tensors()
        torch.manual_seed(0)
        assert torch.equal(followed(nn.Linear(2, 2)).tensors()["weight"], tensors["weight"])


def test_a_loaded_average_goes_on() -> None:
    """Guards against a ramp that starts again, or a skipped step after which a resumed run has another decay."""
    module = nn.Linear(2, 2)
    average = followed(module, skipped=4)
    resumed = Average(dict(module.named_parameters()), 0.9)
    resumed.load({name: tensor.clone() for name, tensor in average.tensors().items()}, step=10)
    with torch.no_grad():
        module.weight += 1
    average.step()
    resumed.step()
    assert torch.equal(average.tensors()["weight"], resumed.tensors()["weight"])
