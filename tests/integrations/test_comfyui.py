"""The nodes for ComfyUI, without ComfyUI: what a workflow would hand them, and what it would get back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

FILE = Path(__file__).parents[2] / "integrations/comfyui/__init__.py"
SETTINGS: dict[str, Any] = {
    "num_images": 2,
    "steps": 2,
    "guidance": -1.0,
    "window": -1,
    "window_policy": "model",
    "seed": 3,
}


@pytest.fixture(scope="module")
def nodes() -> ModuleType:
    """As ComfyUI imports a folder of custom_nodes: by its file."""
    spec = importlib.util.spec_from_file_location("m2m_comfyui", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(nodes: ModuleType) -> Any:
    return nodes.M2MLoadModel().load("tiny-self", "float32")[0]


def batch(count: int, height: int = 40, width: int = 56, seed: int = 0) -> torch.Tensor:
    """IMAGE: [B, H, W, 3] in [0, 1]."""
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed))


def test_what_comfyui_asks_of_a_node_is_there(nodes: ModuleType) -> None:
    """A node that ComfyUI cannot draw, or whose inputs its function does not take."""
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        names = [name for group in inputs.values() for name in group]
        function = getattr(node, node.FUNCTION)
        assert list(function.__code__.co_varnames[1 : function.__code__.co_argcount]) == names
        assert node.RETURN_TYPES and node.CATEGORY
    assert len(FILE.read_text().splitlines()) < 200


def test_the_images_are_the_pipelines_own(nodes: ModuleType, model: Any) -> None:
    """Channels swapped, a range of 255, batches in the wrong order, a guidance of -1 taken at its word."""
    first, second = batch(2), batch(1, 64, 64, seed=1)
    (made,) = nodes.M2MGenerate().generate(model, first, images_2=second, **SETTINGS)
    assert made.shape == (2, 64, 64, 3) and made.dtype == torch.float32
    assert made.min() >= 0 and made.max() <= 1
    given = [*nodes.to_pictures(first), *nodes.to_pictures(second)]
    expected = model(given, num_images=2, num_inference_steps=2, seed=3, output_type="np").images
    assert np.array_equal(made.numpy(), expected)


def test_the_window_is_the_models_own_where_nobody_chooses(nodes: ModuleType, model: Any) -> None:
    """A -1 or 0 that is taken at its word, or a workflow of before that makes other images."""
    given = nodes.to_pictures(batch(1))
    asked = {"num_images": 3, "num_inference_steps": 1, "seed": 3, "output_type": "np"}
    for chosen, meant in (
        ({}, {}),
        ({"window": 0, "window_policy": "sliding"}, {"window": "all"}),
        ({"window": 2, "window_policy": "sliding"}, {"window": 2, "window_policy": "sliding"}),
    ):
        (made,) = nodes.M2MGenerate().generate(model, batch(1), **{**SETTINGS, "num_images": 3, "steps": 1, **chosen})
        assert np.array_equal(made.numpy(), model(given, **asked, **meant).images), chosen


def test_any_image_tensor_becomes_rgb(nodes: ModuleType) -> None:
    """Masks have one channel, cut-outs four; hidden colours of a cut-out must not show."""
    (grey,) = nodes.to_pictures(torch.full((1, 2, 3, 1), 0.5))
    assert grey.size == (3, 2) and grey.getpixel((0, 0)) == (128, 128, 128)
    (clear,) = nodes.to_pictures(torch.zeros(1, 2, 2, 4))
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="an IMAGE must be"):
        nodes.to_pictures(torch.zeros(2, 2, 3))


def test_progress_and_cancel_go_through_comfyui(nodes: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Cancel" that is heard only when all images are done."""
    moved: list[int] = []

    class Cancelled(Exception):
        pass

    def throw_exception_if_processing_interrupted() -> None:
        if len(moved) == 3:
            raise Cancelled

    bar = SimpleNamespace(update=moved.append)
    utils = SimpleNamespace(ProgressBar=lambda total: bar if total == 4 else None)
    management = SimpleNamespace(throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted)
    for name, module in {"comfy": None, "comfy.utils": utils, "comfy.model_management": management}.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(Cancelled):
        nodes.M2MGenerate().generate(model, batch(1), **SETTINGS)
    assert moved == [1, 1, 1]


def test_without_the_package_one_line_says_what_to_install(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI shows the message of an error in a box: no traceback is read there."""
    monkeypatch.setitem(sys.modules, "m2m.loading", None)
    with pytest.raises(ImportError, match="pip install m2m-diffusion"):
        nodes.M2MLoadModel().load("tiny-self", "float32")
