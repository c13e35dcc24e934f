"""The loss of the autoencoder and the scaling factor of its latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from m2m.model.autoencoder import TinyAutoencoder
from m2m.training.autoencoder import (
    AutoencoderLossConfig,
    autoencoder_loss,
    edge_loss,
    measure_scaling_factor,
    perceptual_loss,
)


def small(**changes: object) -> TinyAutoencoder:
    torch.manual_seed(0)
    settings = {"latent_channels": 4, "block_out_channels": (3, 12, 16, 24), "norm_num_groups": 4, "decoder_layers": 1}
    return TinyAutoencoder(**{**settings, **changes})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(count: int, size: int = 32) -> Tensor:
    """Flat squares of random colour and place on a flat ground, [count, 3, size, size] in [-1, 1]."""
    generator = seeded(1)
    pixels = (torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1).repeat(1, 1, size, size)
    for picture in pixels:
        top, left = torch.randint(0, size // 2, (2,), generator=generator).tolist()
        picture[:, top : top + size // 2, left : left + size // 2] = torch.rand(3, 1, 1, generator=generator) * 2 - 1
    return pixels


def gradients_of(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture[..., :, 1:] - picture[..., :, :-1], picture[..., 1:, :] - picture[..., :-1, :]


def test_edge_loss_compares_the_differences_of_neighbours_at_every_scale() -> None:
    """Bug: a scale left out, or an axis counted twice."""
    decoded, pixels = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    wanted = []
    for scale in range(3):
        d, p = (torch.nn.functional.avg_pool2d(x, 2**scale) for x in (decoded, pixels))
        wanted += [(a - b).abs().mean() for a, b in zip(gradients_of(d), gradients_of(p), strict=True)]
    assert torch.allclose(edge_loss(decoded, pixels, 3), torch.stack(wanted).mean())


def test_edge_loss_sees_borders_and_not_brightness() -> None:
    """Bug: the edge term repeats the pixel term and borders stay soft."""
    pixels = squares(2)
    blurred = torch.nn.functional.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)
    assert edge_loss(pixels + 0.3, pixels, 3) < 1e-6
    assert edge_loss(blurred, pixels, 1) > 0.01


def test_terms_are_means_and_do_not_grow_with_size_or_channels() -> None:
    """Bug: a KL sum, under which a larger picture or more channels silently means a stronger prior."""
    config = AutoencoderLossConfig(kl_weight=1.0)
    terms = []
    for channels, size in ((4, 32), (8, 64)):
        model = small(latent_channels=channels)
        torch.nn.init.zeros_(model.encoder.conv_out.weight)
        torch.nn.init.constant_(model.encoder.conv_out.bias, 0.5)  # mean 0.5, log-variance 0.5
        terms.append(autoencoder_loss(model, squares(2, size), config, seeded(0))[1]["kl"].item())
    nats = 0.5 * (0.25 + torch.tensor(0.5).exp().item() - 1 - 0.5)
    assert terms == pytest.approx([nats, nats], rel=1e-5)


def test_the_terms_add_up_and_carry_no_graph() -> None:
    """Bug: a term that is logged but not trained, or a log that keeps every step's graph alive."""
    loss, logs = autoencoder_loss(small(), squares(2), AutoencoderLossConfig(), seeded(0))
    assert set(logs) == {"pixel", "edge", "kl"}
    assert loss.item() == pytest.approx(sum(term.item() for term in logs.values()), rel=1e-6)
    assert not any(term.requires_grad for term in logs.values())


def test_randomness_comes_from_the_generator_alone() -> None:
    """Bug: a resumed run draws other latents than the run it continues."""
    model, pixels = small(), squares(2)
    first, again, other = (autoencoder_loss(model, pixels, AutoencoderLossConfig(), seeded(s))[0] for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_every_weight_is_trained() -> None:
    """Bug: a posterior that is detached, so that the encoder never learns."""
    model = small()
    for block in (m for m in model.modules() if hasattr(m, "conv2")):
        torch.nn.init.normal_(block.conv2.weight, std=0.1)  # at its zero start nothing flows into a block
    autoencoder_loss(model, squares(2), AutoencoderLossConfig(), seeded(0))[0].backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The gradient of a bias that a GroupNorm takes away again may vanish; that of a weight may not.
    assert [name for name in silent if name.endswith("weight")] == []


def test_it_learns_a_few_pictures() -> None:
    """Bug: a sign or a range that lets the loss fall without the pictures coming closer."""
    model, pixels, generator = small(), squares(4), seeded(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = (model(pixels).sample - pixels).abs().mean().item()
    for _ in range(40):
        loss, _ = autoencoder_loss(model, pixels, AutoencoderLossConfig(), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (model(pixels).sample - pixels).abs().mean().item() < 0.5 * before


def test_latent_noise_follows_the_size_of_the_latents() -> None:
    """Bug: noise of fixed size, from which the encoder escapes by making its latents larger."""
    pixels, losses = squares(4), []
    for size in (1.0, 100.0):
        model = small()
        torch.nn.init.constant_(model.encoder.conv_out.bias[4:], -30.0)  # no spread of its own
        torch.nn.init.zeros_(model.encoder.conv_out.weight[4:])
        model.encoder.conv_out.weight.data[:4] *= size
        model.decoder.stages[0].weight.data /= size
        config = AutoencoderLossConfig(kl_weight=0.0, latent_noise=1.0)
        losses.append(autoencoder_loss(model, pixels, config, seeded(0))[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def halves(pixels: Tensor) -> list[Tensor]:
    return [pixels, torch.nn.functional.avg_pool2d(pixels, 2)]


def test_perceptual_term_pulls_on_the_decoded_picture_alone() -> None:
    """Bug: the gradient runs into the real picture's features, or a map of large values outweighs all others."""
    pixels = squares(2)
    decoded = torch.zeros_like(pixels, requires_grad=True)
    assert perceptual_loss(halves, pixels, pixels) == 0
    loss = perceptual_loss(halves, decoded, pixels)
    loss.backward()
    assert decoded.grad is not None and decoded.grad.abs().sum() > 0
    assert torch.allclose(perceptual_loss(lambda x: [100 * f for f in halves(x)], decoded, pixels), loss)


def test_perceptual_weight_without_features_is_an_error() -> None:
    """Bug: the term is configured, silently left out, and the run is compared as if it had had it."""
    with pytest.raises(ValueError, match="no feature extractor"):
        autoencoder_loss(small(), squares(1), AutoencoderLossConfig(perceptual_weight=0.1))
    _, logs = autoencoder_loss(small(), squares(1), AutoencoderLossConfig(perceptual_weight=0.1), features=halves)
    assert logs["perceptual"] > 0


def test_scaled_latents_have_unit_deviation() -> None:
    """Bug: the factor of one batch, or one that takes a shifted mean for deviation."""
    model, pixels = small().eval(), squares(70)  # two batches: the second is another size
    model.encoder.conv_out.bias.data += 5 * torch.randn(8)  # each channel stands off zero by another distance
    factor = measure_scaling_factor(model, pixels)
    with torch.no_grad():
        latents = model.encode(pixels).latent_dist.mode()
    assert (factor * latents).var(dim=(0, 2, 3)).mean().item() == pytest.approx(1.0, rel=1e-3)


def test_latents_without_deviation_have_no_scaling_factor() -> None:
    """Bug: an infinite factor is written into a config and every later latent is infinite or NaN."""
    model = small()
    torch.nn.init.zeros_(model.encoder.conv_out.weight)
    with pytest.raises(ValueError, match="variance of the latents"):
        measure_scaling_factor(model, squares(2))
