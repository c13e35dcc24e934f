"""The tiny autoencoder: an `AutoencoderKL` to every caller, strict about sizes and weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file

from m2m.model.autoencoder import ResidualBlock, TinyAutoencoder
from m2m.types import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"


class PicturePipeline(DiffusionPipeline):
    """The smallest pipeline that holds an autoencoder; what is tested is how diffusers saves and finds our class."""

    def __init__(self, vae: TinyAutoencoder) -> None:
        super().__init__()
        self.register_modules(vae=vae)


def small(**changes: object) -> TinyAutoencoder:
    torch.manual_seed(0)
    settings = {"latent_channels": 4, "block_out_channels": (3, 12, 16, 24), "norm_num_groups": 4, "decoder_layers": 1}
    return TinyAutoencoder(**{**settings, **changes}).eval()


def pictures(count: int, height: int = 64, width: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def saved(folder: Path) -> Path:
    small().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 72), (8, 8)])
def test_any_multiple_of_eight_goes_down_by_eight_and_comes_back(height: int, width: int) -> None:
    """Bug: a stage that halves once too often, or one that only works for square pictures of 64."""
    model = small()
    posterior = model.encode(pictures(2, height, width)).latent_dist
    assert posterior.mean.shape == posterior.std.shape == (2, 4, height // 8, width // 8)
    assert model.decode(posterior.mode()).sample.shape == (2, 3, height, width)


def test_interface_is_that_of_autoencoder_kl() -> None:
    """Bug: the pipeline needs a branch for the tiny autoencoder, or computes another downscale for it."""
    theirs = AutoencoderKL(block_out_channels=(8,), down_block_types=("DownEncoderBlock2D",), norm_num_groups=4,
                           up_block_types=("UpDecoderBlock2D",))  # fmt: skip
    ours = small()
    pixels = pictures(1)
    assert type(ours.encode(pixels)) is type(theirs.encode(pixels))
    assert isinstance(ours.encode(pixels, return_dict=False)[0], DiagonalGaussianDistribution)
    latents = ours.encode(pixels).latent_dist.mode()
    assert type(ours.decode(latents)).__name__ == type(theirs.decode(latents)).__name__
    assert torch.equal(ours.decode(latents, return_dict=False)[0], ours.decode(latents).sample)
    assert {"scaling_factor", "latent_channels", "block_out_channels"} <= set(ours.config) & set(theirs.config)
    assert 2 ** (len(ours.config.block_out_channels) - 1) == ours.downscale == 8


def test_sides_that_are_no_multiple_of_eight_are_refused() -> None:
    """Bug: the last rows are cut off in silence, or torch complains about pixel_unshuffle."""
    with pytest.raises(UserError, match="64x60 pixels: both sides must be multiples of 8"):
        small().encode(pictures(1, height=60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, "power of two"),
        ({"block_out_channels": (16, 24)}, r"must begin with \(3, 12\)"),
        ({"block_out_channels": (3, 12)}, r"must begin with \(3, 12\)"),
        ({"block_out_channels": (3, 12, 18, 24)}, "multiples of norm_num_groups 4"),
    ],
)
def test_widths_that_do_not_fit_are_named(changes: dict, message: str) -> None:
    """Bug: a list of another length than the downscale needs is taken, and the latents have another size."""
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_an_eightfold_patch_keeps_the_downscale() -> None:
    """Bug: the downscale counts list entries instead of what the layers do."""
    model = small(patch_size=8, block_out_channels=(3, 12, 48, 24))
    assert model.encode(pictures(1)).latent_dist.mean.shape[-2:] == (8, 8)
    assert model.downscale == 8


def test_blocks_begin_as_the_identity() -> None:
    """Bug: without the zero start a learning rate of 2e-3 diverges in the first steps."""
    torch.manual_seed(0)
    block, x = ResidualBlock(8, 4), torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)


def test_a_latent_sees_its_own_place() -> None:
    """Bug: space-to-depth and depth-to-space in different orders scatter a patch over the picture."""
    model = small()
    latents = torch.zeros(1, 4, 8, 8)
    moved = latents.clone()
    moved[0, :, 0, 0] = 3.0
    change = (model.decoder.stages[0](moved) - model.decoder.stages[0](latents)).abs().sum(1)[0]
    assert change[:2, :2].min() > 0 and change[2:].max() == 0 and change[:, 2:].max() == 0
    pixels = torch.arange(64 * 64, dtype=torch.float32).view(1, 1, 64, 64).expand(1, 3, 64, 64)
    unfolded = torch.nn.functional.pixel_unshuffle(pixels, model.encoder.patch)
    assert torch.equal(torch.nn.functional.pixel_shuffle(unfolded, model.decoder.patch), pixels)


def test_draws_follow_the_generator_and_the_mean_needs_none() -> None:
    """Bug: latents drawn from the global generator, so that the same seed gives another picture."""
    model, pixels = small(), pictures(1)
    draws = [model(pixels, sample_posterior=True, generator=torch.Generator().manual_seed(s)).sample for s in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(model(pixels).sample, model(pixels).sample)


def test_under_autocast_the_distribution_stays_float32() -> None:
    """Bug: the exponential of the log-variance in bfloat16, three digits, in every training step."""
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encode(pictures(1)).latent_dist.std.dtype == torch.float32
    assert model.to(torch.bfloat16).encode(pictures(1).bfloat16()).latent_dist.std.dtype == torch.bfloat16


def test_a_pipeline_saves_it_and_finds_it_again(tmp_path: Path) -> None:
    """Bug: diffusers finds no loading method for a class whose module does not hold the name ModelMixin."""
    model = small(scaling_factor=0.7)
    PicturePipeline(model).save_pretrained(tmp_path)
    loaded = PicturePipeline.from_pretrained(tmp_path).vae
    assert isinstance(loaded, TinyAutoencoder) and loaded.config.scaling_factor == 0.7
    assert torch.equal(loaded(pictures(1)).sample, model(pictures(1)).sample)


@pytest.mark.parametrize(("change", "message"), [("missing", "1 missing weights"), ("extra", "1 unexpected weights")])
def test_loading_is_all_or_nothing(tmp_path: Path, change: str, message: str) -> None:
    """Bug: diffusers only warns, and a layer without weights decodes to noise."""
    path = saved(tmp_path) / WEIGHTS
    tensors = load_file(path)
    if change == "missing":
        tensors.pop("decoder.conv_out.bias")
    else:
        tensors["decoder.more.bias"] = torch.zeros(3)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=message):
        TinyAutoencoder.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    """Bug: diffusers falls back to unpickling diffusion_pytorch_model.bin where there is no safetensors file."""
    path = saved(tmp_path) / WEIGHTS
    path.rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        TinyAutoencoder.from_pretrained(tmp_path)
