"""The benchmark of training steps as it is called, at the tiny size."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import tiny_unet_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as for a script: its neighbours are imported by their bare names
    module = import_module("train_step")
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({"unet": tiny_unet_config()}))
    monkeypatch.setattr(module, "TINY_CONFIG", config)
    return module


def test_it_compares_both_models_with_diffusers(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against ratios of other things than they say, and a step with more images on one side."""
    out = tmp_path / "out.json"
    options = ["--sets=1", "--images=3", "--rounds=1", "--dtype=float32", "--trainable=image_set_attention"]
    benchmark.run(benchmark.parse([*options, "--checkpointing", "--peak-tflops=2", f"--out={out}"]))
    results = json.loads(out.read_text())["results"]
    text, *ours = results.values()
    assert list(results) == ["diffusers, text", "M2M-Self", "M2M-DINO"]
    for own in ours:
        (seconds,), (theirs,) = own["seconds"]["wall"], text["seconds"]["wall"]
        assert own["images_per_second"] == pytest.approx(3 / seconds) == pytest.approx(3 * own["sets_per_second"])
        assert own["ratio_wall"]["speed"]["median"] == pytest.approx(theirs / seconds)
        assert own["ratio_wall"]["work"]["median"] == pytest.approx(own["tflops"] / text["tflops"])
        assert own["share_of_peak"] == pytest.approx(own["tflops"] / 2)
        assert own["memory_gb"] > 0
    assert capsys.readouterr().out.count("\n|") == 4


def test_operations_are_those_of_the_whole_step(benchmark: Any) -> None:
    """Guards against operations of the forward pass alone, of another batch than the step's, or without attention."""

    # Backward of most layers is twice their forward; with all but attention frozen there are no gradients of weights.
    whole, frozen = (
        benchmark.flops(benchmark.parse(["--sets=1", "--images=2", f"--trainable={trainable}"]), "diffusers, text")
        for trainable in ("all", "image_set_attention")
    )
    unet = UNet2DConditionModel(**tiny_unet_config(), cross_attention_dim=32)
    with FlopCounterMode(display=False) as forward, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        unet(torch.randn(2, 4, 8, 8), 1, torch.randn(2, 77, 32))
    assert 2.8 < whole / forward.get_total_flops() < 3
    assert 1.5 < frozen / forward.get_total_flops() < 2.2
