"""CLIP as an extractor, on a tiny random one in transformers layout, with a tokenizer of single letters."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from m2m.evaluation.features.clip import ClipExtractor
from m2m.evaluation.features.extractor import TextExtractor, find_extractor
from m2m.types import UserError
from tests.evaluation.features.drawings import drawings

START, END = "<|startoftext|>", "<|endoftext|>"
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LENGTH = 12  # tokens of a caption, start and end included


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel of 9,000 parameters with its processor and tokenizer."""
    place = tmp_path_factory.mktemp("clip")
    letters = string.ascii_lowercase + ","
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    (place / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt")).save_pretrained(place)
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = {**TINY, **ends, "vocab_size": len(words), "max_position_embeddings": LENGTH}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**TINY, "image_size": 32, "patch_size": 8}, projection_dim=10)
    CLIPModel(config).save_pretrained(place)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(place)
    return place


def copy(folder: Path, to: Path, left_out: tuple[str, ...] = ()) -> None:
    for own in folder.iterdir():
        if own.name not in left_out:
            (to / own.name).write_bytes(own.read_bytes())


def test_picture_embeddings_are_transformers_image_features(folder: Path) -> None:
    """Guards against the features before the projection, normalised ones, and pixels that were scaled twice."""
    pictures = drawings(5, size=50)
    pictures[:, :, :5] = 255
    network, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessorPil.from_pretrained(folder)
    wanted = []
    with torch.no_grad():
        for picture in pictures.numpy():
            pixels = processor(Image.fromarray(picture), return_tensors="pt")
            wanted.append(network.get_image_features(**pixels).pooler_output[0])
    extractor = ClipExtractor(str(folder))
    found = extractor.extract(pictures)
    assert found.logits is None and found.embeddings.shape == (5, extractor.dim) == (5, 10)
    torch.testing.assert_close(found.embeddings, torch.stack(wanted), rtol=1e-4, atol=1e-5)


def test_caption_embeddings_are_transformers_text_features(folder: Path) -> None:
    """Guards against a prefix, against padding that shows, and against a crash at a caption that is too long."""
    captions = ["a cat", "three owls", "a", "a very long caption, much longer than that"]
    network, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    wanted = []
    with torch.no_grad():
        for caption in captions:
            tokens = tokenizer(caption, truncation=True, max_length=LENGTH, return_tensors="pt")
            wanted.append(network.get_text_features(**tokens).pooler_output[0])
    extractor = find_extractor(f"clip:{folder}")
    assert isinstance(extractor, TextExtractor)
    torch.testing.assert_close(extractor.text(captions), torch.stack(wanted), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(extractor.text(["a cat"]), extractor.text(["a owl"]))
    assert extractor.text([]).shape == (0, 10)


def test_half_precision_weights_are_computed_in_single(folder: Path, tmp_path: Path) -> None:
    """Guards against float16 on a CPU, as transformers loads what was saved so, and bands in the similarities."""
    copy(folder, tmp_path)
    CLIPModel.from_pretrained(folder).half().save_pretrained(tmp_path)
    pictures = drawings(1)
    half, whole = ClipExtractor(str(tmp_path)), ClipExtractor(str(folder))
    found, wanted = half.extract(pictures).embeddings, whole.extract(pictures).embeddings
    assert half.identity != whole.identity
    assert not torch.equal(found, found.half().float())
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.01)


def test_a_processor_of_another_size_is_another_extractor(folder: Path, tmp_path: Path) -> None:
    """Guards against cached features that were made of other pixels by the same weights."""
    copy(folder, tmp_path)
    same = ClipExtractor(str(tmp_path)).identity
    CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert same == ClipExtractor(str(folder)).identity != ClipExtractor(str(tmp_path)).identity


@pytest.mark.parametrize("missing", ["model.safetensors", "preprocessor_config.json", "tokenizer"])
def test_a_folder_with_something_missing_is_refused_in_one_line(folder: Path, tmp_path: Path, missing: str) -> None:
    """Guards against random weights, a default preprocessing, an empty vocabulary, or a page of traceback."""
    left_out = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    copy(folder, tmp_path, left_out if missing == "tokenizer" else (missing,))
    with pytest.raises(UserError, match=f"extractor 'clip:{tmp_path}' cannot be loaded: ") as caught:
        ClipExtractor(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_weight_that_is_missing_is_an_error(folder: Path, tmp_path: Path) -> None:
    """Guards against a projection drawn at random, with which every similarity is noise."""
    copy(folder, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="visual_projection.weight"):
        ClipExtractor(str(tmp_path))
