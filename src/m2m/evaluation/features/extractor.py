"""Extractors: pictures in, one embedding a picture out (and class logits, where the network is a classifier).

    inception                       FID's network, through torch-fidelity; "inception:FILE.pth": its weights from a file
    clip:ViT-B/32, clip:ViT-L/14    CLIP of OpenAI from the hub, with text; "clip:DIR": any CLIP in transformers layout
    dinov2:base, ...                DINOv2 of Meta from the hub; "dinov2:DIR"
    efficientnet-lite0              ImageNet features and logits out of an installed package; no download
    colour, gram                    statistics of a picture's style, with no regard to what it shows

A number never stands without the extractor that it was made with.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from m2m.types import UserError


@dataclass(frozen=True)
class Features:
    """embeddings: [M, D], of what length the network makes them; logits: [M, K] of a classifier. float32 on the CPU."""

    embeddings: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.embeddings)


@runtime_checkable
class Extractor(Protocol):
    """name: as it was asked for. identity: kind and fingerprint of weights and preprocessing, the same in every place
    and on every device. dim: D. classes: K, 0 where there are no logits."""

    name: str
    identity: str
    dim: int
    classes: int

    def extract(self, pictures: Tensor) -> Features:
        """Features of pictures uint8 [M, H, W, 3], any M, any size."""


@runtime_checkable
class TextExtractor(Extractor, Protocol):
    """An extractor that reads captions too, into the space of its pictures."""

    def text(self, captions: Sequence[str]) -> Tensor:
        """Embeddings float32 [M, D] of captions, as they are: no prefix."""


class BatchedExtractor(ABC):
    """What all extractors share: batches, no gradient, results on the CPU. `batch`: pictures of one pass."""

    name: str
    identity: str
    dim: int
    classes: int = 0
    batch: int = 32

    @torch.no_grad()
    def extract(self, pictures: Tensor) -> Features:
        """Features of pictures uint8 [M, H, W, 3]. Raises UserError for what is no such tensor."""
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
            found = f"{pictures.dtype} {list(pictures.shape)}"
            raise UserError(f"an extractor reads pictures uint8 [M, H, W, 3], these are {found}")
        if not len(pictures):
            return Features(torch.zeros(0, self.dim), torch.zeros(0, self.classes) if self.classes else None)
        parts = [self.extract_batch(part) for part in pictures.split(self.batch)]
        return joined(parts)

    @abstractmethod
    def extract_batch(self, pictures: Tensor) -> Features:
        """Features of at most `batch` pictures uint8 [M, H, W, 3], on any device."""


def joined(parts: Sequence[Features]) -> Features:
    """Features of several batches as one, float32 on the CPU."""
    embeddings = torch.cat([part.embeddings.float().cpu() for part in parts])
    logits = [part.logits.float().cpu() for part in parts if part.logits is not None]
    return Features(embeddings, torch.cat(logits) if logits else None)


def fingerprint(content: nn.Module | bytes, *words: object) -> str:
    """32 hex digits that follow from weights (names, types, values), or bytes, and from words on the preprocessing."""
    digest = hashlib.sha256("|".join(map(str, words)).encode())
    if isinstance(content, bytes):
        digest.update(content)
        return digest.hexdigest()[:32]
    for name, tensor in sorted(content.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # As bytes: numpy knows no bfloat16, and a tensor without axes has no bytes to view.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def find_extractor(name: str, device: str = "cpu") -> Extractor:
    """The extractor of that name (see above), its network on `device`.

    Raises:
        UserError: there is no such extractor, or its package or weights are missing.
    """
    # Imported here: each loads a library of its own, and each builds on this file.
    from m2m.evaluation.features import clip, dinov2, efficientnet, inception, style

    kind, _, which = name.partition(":")
    if kind == "clip" and which:
        return clip.ClipExtractor(which, device)
    if kind == "dinov2" and which:
        return dinov2.DinoV2Extractor(which, device)
    if name == "inception" or (kind == "inception" and which):
        return inception.InceptionExtractor(which, device)
    if name == "efficientnet-lite0":
        return efficientnet.EfficientNetExtractor(device)
    if name == "colour":
        return style.ColourStyle(device)
    if name == "gram":
        return style.GramStyle(device)
    known = f"inception, {_choices('clip', clip.HUB_IDS)}, {_choices('dinov2', dinov2.HUB_IDS)}"
    raise UserError(f"no extractor '{name}'; known: {known}, efficientnet-lite0, colour, gram")


def place_of(name: str, which: str, known: Mapping[str, str]) -> str:
    """The hub id, or the folder with a config.json, that `which` means. Raises UserError where it is neither."""
    if which in known:
        return known[which]
    # Without the file transformers would go on with a default network: a large one, at random.
    if (Path(which) / "config.json").is_file():
        return which
    raise UserError(f"extractor '{name}': '{which}' is neither a folder with a config.json nor {', '.join(known)}")


def _choices(kind: str, known: Mapping[str, str]) -> str:
    return ", ".join(f"{kind}:{which}" for which in (*known, "FOLDER"))
