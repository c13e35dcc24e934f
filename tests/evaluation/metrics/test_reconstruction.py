"""PSNR and SSIM, against their definitions."""

from __future__ import annotations

import pytest
import torch

from m2m.evaluation.metrics.reconstruction import MOST_PSNR, psnr, ssim


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randint(60, 200, (count, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_psnr_is_of_each_picture_by_itself() -> None:
    """Guards against one figure for the batch, and against levels that are taken for shares."""
    true = pictures()
    off = true.clone()
    off[1] += 5
    off[2] += 50
    found = psnr(off, true)
    assert found[0] == MOST_PSNR
    assert found[1:].tolist() == pytest.approx([20 * torch.tensor(255 / d).log10().item() for d in (5, 50)], abs=1e-3)


def test_ssim_falls_with_structure_not_with_brightness() -> None:
    """Guards against a second PSNR, and against another shape for a single picture."""
    true = pictures()
    shuffled = true.flip(1)
    assert ssim(true, true).tolist() == pytest.approx([100] * 3, abs=1e-3)
    assert ssim(true + 20, true).min() > 90 > 30 > ssim(shuffled, true).max()
    assert torch.allclose(ssim(shuffled[:1], true[:1]), ssim(shuffled, true)[:1], atol=1e-4)


def test_no_pictures_and_no_pairs() -> None:
    """Guards against a crash for a set that has no truth, and against pictures compared with the wrong ones."""
    assert len(psnr(pictures(0), pictures(0))) == len(ssim(pictures(0), pictures(0))) == 0
    with pytest.raises(ValueError, match="no pairs"):
        psnr(pictures(2), pictures(3))
