"""A small autoencoder for 64-pixel pictures on CPU cores, behind the interface of diffusers' `AutoencoderKL`.

It works on space-to-depth input: a 4x4 patch of RGB becomes 48 channels before the first convolution. One that starts
with 32 channels at full resolution spends nearly all of its time on 64x64 maps and trains at half the speed.
"""

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from m2m.model.strict import StrictLoading
from m2m.types import UserError


class ResidualBlock(nn.Module):
    """`x + conv(silu(norm(conv(silu(norm(x))))))`, [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # The block starts as the identity: high learning rates are then stable from the first step.
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # [B, C, h, w]
        h = self.conv2(F.silu(self.norm2(h)))  # [B, C, h, w]
        return x + h  # [B, C, h, w]


def _residual_blocks(channels: int, count: int, groups: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, groups) for _ in range(count)))


class Encoder(nn.Module):
    """Pixels [B, 3, H, W] -> moments [B, 2 * latent_channels, H / 8, W / 8] (mean and log-variance)."""

    def __init__(self, patch: int, widths: tuple[int, ...], blocks: int, moments: int, groups: int) -> None:
        super().__init__()
        self.patch = patch
        stages: list[nn.Module] = [nn.Conv2d(3 * patch**2, widths[0], 3, padding=1)]
        for width, wider in zip(widths, widths[1:], strict=False):
            stages.append(_residual_blocks(width, blocks, groups))
            stages.append(nn.Conv2d(width, wider, 3, stride=2, padding=1))
        stages.append(_residual_blocks(widths[-1], blocks, groups))
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], moments, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.pixel_unshuffle(pixels, self.patch)  # [B, 3 p^2, H/p, W/p]
        x = self.stages(x)  # [B, widths[-1], h, w]
        return self.conv_out(F.silu(self.norm_out(x)))  # [B, 2C, h, w]


class Decoder(nn.Module):
    """Latents [B, latent_channels, h, w] -> pixels [B, 3, 8h, 8w]; the encoder mirrored."""

    def __init__(self, patch: int, widths: tuple[int, ...], blocks: int, latent_channels: int, groups: int) -> None:
        super().__init__()
        self.patch = patch
        stages: list[nn.Module] = [nn.Conv2d(latent_channels, widths[-1], 3, padding=1)]
        for wider, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
            stages.append(_residual_blocks(wider, blocks, groups))
            # Sub-pixel convolution: at this size it costs a quarter of "upsample, then 3x3 convolution".
            stages.append(nn.Conv2d(wider, 4 * width, 3, padding=1))
            stages.append(nn.PixelShuffle(2))
        stages.append(_residual_blocks(widths[0], blocks, groups))
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3 * patch**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.stages(latents)  # [B, widths[0], H/p, W/p]
        x = self.conv_out(F.silu(self.norm_out(x)))  # [B, 3 p^2, H/p, W/p]
        return F.pixel_shuffle(x, self.patch)  # [B, 3, H, W]


class TinyAutoencoder(StrictLoading, ModelMixin, ConfigMixin):
    """Variational autoencoder, 8x down; a drop-in for diffusers' `AutoencoderKL` inside a pipeline.

    Args:
        latent_channels: channels C of a latent.
        block_out_channels: channels at pixel scales 1, 1/2, 1/4, 1/8, as in `AutoencoderKL`, so that the usual
            `2 ** (len(block_out_channels) - 1)` gives the downscale. The first ones are the pure space-to-depth scales
            and must be 3, 12, ..; `patch_size` says how far they go.
        patch_size: side of the patch folded into channels, a power of two.
        encoder_layers, decoder_layers: residual blocks at each convolutional scale.
        norm_num_groups: groups of every GroupNorm.
        scaling_factor: latents seen by the U-Net are `scaling_factor * mean`; chosen so that their deviation is 1.

    Raises:
        UserError: the channel list does not fit the patch size or the group count.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (3, 12, 96, 192),
        patch_size: int = 4,
        encoder_layers: int = 1,
        decoder_layers: int = 2,
        norm_num_groups: int = 8,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        widths = _convolutional_widths(tuple(block_out_channels), patch_size, norm_num_groups)
        self.downscale = patch_size * 2 ** (len(widths) - 1)
        self.encoder = Encoder(patch_size, widths, encoder_layers, 2 * latent_channels, norm_num_groups)
        self.decoder = Decoder(patch_size, widths, decoder_layers, latent_channels, norm_num_groups)

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Pixels [B, 3, H, W] in [-1, 1] -> distribution of unscaled latents [B, C, H/8, W/8].

        Raises:
            UserError: H or W is no multiple of the downscale.
        """
        height, width = x.shape[-2:]
        if height % self.downscale or width % self.downscale:
            raise UserError(f"cannot encode {width}x{height} pixels: both sides must be multiples of {self.downscale}")
        moments = self.encoder(x)  # [B, 2C, h, w]
        # Back to the weights' type: under bfloat16 autocast the exponential of the log-variance must stay float32.
        latent_dist = DiagonalGaussianDistribution(moments.to(self.dtype))
        return AutoencoderKLOutput(latent_dist=latent_dist) if return_dict else (latent_dist,)

    @apply_forward_hook
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Unscaled latents [B, C, h, w] (U-Net latents divided by `scaling_factor`) -> pixels [B, 3, 8h, 8w].

        Values lie near [-1, 1] and are not clamped, as in `AutoencoderKL`; `generator` is there for its signature only.
        """
        sample = self.decoder(z)  # [B, 3, H, W]
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """Pixels -> reconstructed pixels, through the mean or, if `sample_posterior`, through a draw."""
        posterior = self.encode(sample, return_dict=False)[0]  # [B, C, h, w]
        latents = posterior.sample(generator) if sample_posterior else posterior.mode()  # [B, C, h, w]
        return self.decode(latents, return_dict=return_dict)  # [B, 3, H, W]


def _convolutional_widths(channels: tuple[int, ...], patch_size: int, groups: int) -> tuple[int, ...]:
    """The entries of `block_out_channels` after the space-to-depth scales."""
    folds = int(math.log2(patch_size)) if patch_size > 0 else 0
    if 2**folds != patch_size:
        raise UserError(f"patch_size {patch_size}: must be a power of two")
    expected = tuple(3 * 4**scale for scale in range(folds))
    if channels[:folds] != expected or len(channels) == folds:
        raise UserError(
            f"block_out_channels {channels}: must begin with {expected} at patch_size {patch_size}, then widths"
        )
    widths = channels[folds:]
    if any(width % groups for width in widths):
        raise UserError(f"block_out_channels {channels}: widths must be multiples of norm_num_groups {groups}")
    return widths
