"""CLIP as an extractor of pictures and captions: Text-Image and Image-Image CLIP (paper, section 7.2), CMMD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from m2m.evaluation.features.extractor import BatchedExtractor, Features, fingerprint, place_of
from m2m.types import UserError

HUB_IDS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336": "openai/clip-vit-large-patch14-336",
}
TEXT_BATCH = 256  # captions of one pass


class ClipExtractor(BatchedExtractor):
    """Embeddings: the projected features of pictures and of captions, [M, D]; ViT-B/32: 512, ViT-L/14: 768.

    They are not normalised. Pictures go through transformers' own processor (Pillow's bicubic, then the middle square),
    captions through its tokenizer, cut at the model's length (77).

    Raises:
        UserError: `which` is no known CLIP and no folder of a CLIPModel in transformers layout with its processor and
            tokenizer, or its weights do not fit.
    """

    def __init__(self, which: str, device: str = "cpu") -> None:
        self.name = f"clip:{which}"
        self._device = device
        network, self._processor, self._tokenizer = _load(self.name, place_of(self.name, which, HUB_IDS))
        self._network = network.to(device)
        self.dim = int(network.config.projection_dim)
        self.identity = f"clip:{fingerprint(network, self._processor.to_json_string())}"

    def extract_batch(self, pictures: Tensor) -> Features:
        images = [Image.fromarray(picture) for picture in pictures.cpu().numpy()]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"].to(self._device)
        pooled = self._network.vision_model(pixel_values=pixels).pooler_output  # [M, width]
        return Features(self._network.visual_projection(pooled))  # [M, D]

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Embeddings float32 [M, D] of captions, as they are: no prefix."""
        starts = range(0, len(captions), TEXT_BATCH)
        parts = [self._text_batch(list(captions[start : start + TEXT_BATCH])) for start in starts]
        return torch.cat([torch.zeros(0, self.dim), *parts])

    def _text_batch(self, captions: list[str]) -> Tensor:
        limit = self._network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(captions, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        pooled = self._network.text_model(**tokens.to(self._device)).pooler_output  # [M, width]
        return self._network.text_projection(pooled).float().cpu()  # [M, D]


def _load(name: str, place: str) -> tuple[Any, Any, Any]:
    """Network in float32, processor and tokenizer, strictly."""
    # Pillow's processor by its own name: beside torchvision the common name means another one, with other pixels.
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    try:
        network, info = CLIPModel.from_pretrained(place, use_safetensors=True, output_loading_info=True)
        processor, tokenizer = CLIPImageProcessorPil.from_pretrained(place), CLIPTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"extractor '{name}' cannot be loaded: {str(error).splitlines()[0]}") from error
    misfits = {kind: sorted(names) for kind, names in info.items() if names}
    if misfits:
        raise UserError(f"extractor '{name}' does not hold the weights of a CLIPModel: {misfits}")
    wanted = network.config.text_config.vocab_size
    if len(tokenizer) != wanted:  # without its files it is an empty one, and no error
        found = f"{len(tokenizer)} tokens, not {wanted}"
        raise UserError(f"extractor '{name}' cannot be loaded: its tokenizer is missing or another model's: {found}")
    return network.float().eval().requires_grad_(False), processor, tokenizer
