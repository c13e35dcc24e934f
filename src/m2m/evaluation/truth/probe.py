"""TruthProbe: a small classifier that reads the attributes of a tiny world off a picture.

It measures models and is never trained with one: it sees rendered pictures only, of every subject, those that no model
is trained on included. One trunk, one linear head an attribute (subject, category, style, count, background).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from m2m.model.strict import StrictLoading
from m2m.types import UserError

CLASSIFY_BATCH = 128  # pictures of one pass of `classify`


class Block(nn.Module):
    """`x + conv(relu(norm(conv(relu(norm(x))))))`, [M, C, h, w] -> [M, C, h, w]; the identity at the start."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))  # [M, C, h, w]
        h = self.conv2(F.relu(self.norm2(h)))  # [M, C, h, w]
        return x + h  # [M, C, h, w]


class TruthProbe(StrictLoading, ModelMixin, ConfigMixin):
    """Pixels -> logits of every attribute's values.

    Args:
        attributes: attribute name -> all its values, in the order of the labels; `World.attributes`.
        image_size: side of the pictures in pixels; a multiple of the trunk's downscale.
        patch_size: side of the patch folded into channels before the first convolution; spares the CPU large maps.
        widths: channels of each scale, each half the size of the one before.
        blocks: residual blocks of each scale.
        norm_num_groups: groups of every GroupNorm.

    Raises:
        UserError: widths and blocks differ in length, or the image size is no multiple of the downscale.
    """

    @register_to_config
    def __init__(
        self,
        *,  # diffusers takes what is given by position for a default, and leaves it out of the config
        attributes: dict[str, list],
        image_size: int = 64,
        patch_size: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks: Sequence[int] = (0, 1, 1, 1),
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        downscale = patch_size * 2 ** (len(widths) - 1)
        if len(widths) != len(blocks) or image_size % downscale:
            raise UserError(
                f"a probe of widths {list(widths)} needs as many blocks (it has {list(blocks)}) and pictures of a "
                f"multiple of {downscale} pixels (they have {image_size})"
            )
        stages: list[nn.Module] = [nn.Conv2d(3 * patch_size**2, widths[0], 3, padding=1)]
        for scale, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if scale > 0:
                stages.append(nn.Conv2d(widths[scale - 1], width, 3, stride=2, padding=1))
            stages += [Block(width, norm_num_groups) for _ in range(count)]
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(norm_num_groups, widths[-1])
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], len(values)) for name, values in attributes.items()})

    @property
    def attributes(self) -> dict[str, list]:
        """Attribute name -> its values; an index that `classify` returns points into these."""
        return {name: list(values) for name, values in self.config.attributes.items()}

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels [M, 3, S, S] in [-1, 1] -> logits by attribute, each [M, values].

        Raises:
            UserError: the pictures are not of the probe's size.
        """
        size = self.config.image_size
        if tuple(pixels.shape[1:]) != (3, size, size):
            raise UserError(f"the probe reads pictures [M, 3, {size}, {size}], these are {list(pixels.shape)}")
        x = F.pixel_unshuffle(pixels, self.config.patch_size)  # [M, 3 p^2, S/p, S/p]
        # Convolutions of few channels on many positions: a fifth faster on a CPU with the channels last.
        x = self.stages(x.contiguous(memory_format=torch.channels_last))  # [M, C, h, w]
        x = F.relu(self.norm_out(x)).mean(dim=(2, 3))  # [M, C]
        return {name: head(x) for name, head in self.heads.items()}  # each [M, values]

    @torch.no_grad()
    def classify(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels [M, 3, S, S] in [-1, 1], M > 0 -> index of the likeliest value by attribute, int64 [M] on the CPU."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.heads}
        for part in pixels.split(CLASSIFY_BATCH):
            for name, logits in self(part.to(self.device, self.dtype)).items():
                found[name].append(logits.argmax(dim=1).cpu())
        return {name: torch.cat(parts) for name, parts in found.items()}

    def check_attributes(self, attributes: Mapping[str, list]) -> None:
        """Raise UserError unless this probe tells exactly these attributes apart, their values in this order."""
        if self.attributes != {name: list(values) for name, values in attributes.items()}:
            raise UserError(
                "the probe was trained on another world: its attributes or their values differ; give another"
            )


def load_probe(place: str | Path = "probe-mini") -> TruthProbe:
    """A probe in float32 and eval mode: the name of a shipped one, or a folder.

    Raises:
        UserError: there is no such probe, or its weights do not fit.
    """
    shipped = Path(str(files("m2m"))) / "weights" / str(place)
    folder = shipped if (shipped / "config.json").is_file() else Path(place)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"probe '{place}' is neither shipped nor a folder with a config.json; `m2m train-probe` makes one"
        )
    return TruthProbe.from_pretrained(folder).float().eval().requires_grad_(False)
