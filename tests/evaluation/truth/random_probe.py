"""A small probe with random weights that tells pictures apart, if by no sense."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from m2m.evaluation.truth.probe import TruthProbe


def random_probe(attributes: Mapping[str, list], image_size: int = 64) -> TruthProbe:
    """Heads of large weights, their biases such that no value is likelier than the others from the start."""
    torch.manual_seed(0)
    probe = TruthProbe(attributes=dict(attributes), image_size=image_size, widths=(8, 16), blocks=(0, 1)).eval()
    colours = torch.rand(64, 3, 1, 1) * 2 - 1
    pictures = colours + 0.5 * torch.randn(64, 3, image_size, image_size)
    with torch.no_grad():
        for head in probe.heads.values():
            torch.nn.init.normal_(head.weight)
        for name, logits in probe(pictures).items():
            probe.heads[name].bias -= logits.mean(0)
    return probe
