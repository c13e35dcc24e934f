"""What sampling costs: that the right things are compared, counted and divided by the right numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from m2m.evaluation.efficiency.contenders import (
    BASE,
    DINO,
    SELF,
    Parts,
    encoder,
    latent_side,
    random_pipelines,
    sd21_parts,
    tensors_of,
    with_base,
    without_arithmetic,
)
from m2m.evaluation.efficiency.files import NUMBERS, PLOT, TABLE, Record
from m2m.evaluation.efficiency.measuring import (
    LABELS,
    RECOMPUTING,
    Cell,
    EfficiencyConfig,
    Facts,
    Measured,
    cache_bytes,
    contenders,
    facts,
    measure,
    set_sampler,
    zeroing,
)
from m2m.evaluation.efficiency.operations import COUNTED, Law, count
from m2m.evaluation.efficiency.peak_memory import CLEAR, working_bytes
from m2m.evaluation.efficiency.plot import plot
from m2m.evaluation.efficiency.table import Efficiency, cell_line, markdown
from m2m.evaluation.work import Stopped
from m2m.model.unet import M2MModel
from m2m.types import UserError
from tests.tiny import tiny_autoencoder, tiny_encoder, tiny_pipeline, tiny_scheduler, tiny_unet_config

CONFIG = EfficiencyConfig(steps=2, guidance=3.0, batch=2, rounds=2)
NO_LAW = Law(dict.fromkeys(COUNTED, 0))


def parts() -> Parts:
    with torch.device("meta"):
        networks = tiny_autoencoder(), tiny_encoder()
    return Parts(tiny_unet_config(), tiny_scheduler(), *networks)


@cache
def pipelines(dtype: torch.dtype = torch.float32, device: str = "cpu") -> dict[str, Any]:
    return random_pipelines(parts(), dtype, device)


def cell(given: int, images: int, own: float = 3.0, rounds: int = 3) -> Cell:
    """The base takes 1, 2, 4 s in its rounds, ours `own` times as long, and twice the operations."""
    base = (1.0, 2.0, 4.0)[:rounds]
    slower = tuple(own * seconds for seconds in base)
    ours = Measured(slower, slower, 20, 5)
    return Cell(given, images, 2, {BASE: Measured(base, base, 10, 4), SELF: ours, RECOMPUTING: replace(ours)})


def efficiency(*cells: Cell) -> Efficiency:
    own = {BASE: Facts(10, 40, None), SELF: Facts(12, 48, 2**20)}
    return Efficiency({"steps": 2, "device": "cpu"}, {"processor": "P"}, ["a note"], own, cells)


@pytest.mark.parametrize("name", [SELF, DINO, RECOMPUTING])
def test_operations_are_those_that_torch_counts_on_the_real_pipeline(name: str) -> None:
    """Bug: a law that forgets the encoding of given images, the context that grows, or the second branch."""
    call = contenders(pipelines(), replace(CONFIG, batch=1), [name])[name]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call(3, 3, 3)
    assert Law.of(call).operations(3, 3, 3) == counter.get_total_flops() > 0


def test_pipelines_without_arithmetic_do_the_same_operations() -> None:
    """Bug: full sizes, which are counted on fake tensors alone, by another path than what runs."""
    twins = {name: without_arithmetic(pipe) for name, pipe in pipelines(device="meta").items()}
    fake, real = (contenders(own, CONFIG, [DINO]) for own in (twins, pipelines()))
    for name in (BASE, DINO):
        assert count(partial(fake[name], 1, 2, 1)) == count(partial(real[name], 1, 2, 1)) > 0


def test_contenders_share_all_weights_but_their_own_attention() -> None:
    """Bug: another U-Net than the base's, whose time would say nothing; three copies of 3.5 GB."""
    base = pipelines()[BASE].unet.state_dict()
    for name in (SELF, DINO):
        own = pipelines()[name].model.unet.state_dict()
        assert own.keys() == base.keys()
        for key, tensor in own.items():
            assert (tensor.data_ptr() == base[key].data_ptr()) == (".attn2." not in key), key


def test_random_weights_are_numbers_and_the_context_counts() -> None:
    """Bug: memory that nobody filled, whose NaN or denormals change the time; an attention of zeros."""
    for name, sampler in contenders(pipelines(), CONFIG, list(LABELS)).items():
        assert sampler(1, 1, 1).isfinite().all(), name
    for pipe in pipelines().values():
        for part in (own for own in pipe.components.values() if isinstance(own, torch.nn.Module)):
            assert all(parameter.isfinite().all() for parameter in part.parameters())
    own = contenders(pipelines(), CONFIG, [SELF, DINO])
    for name in (SELF, DINO):
        assert not torch.equal(own[name](1, 1, 1), own[name](2, 1, 1)), name


def test_both_ways_of_self_make_the_same_images_and_all_make_as_many() -> None:
    """Bug: a ratio between different work."""
    made = {name: sampler(2, 3, 2) for name, sampler in contenders(pipelines(), CONFIG, list(LABELS)).items()}
    assert {tuple(images.shape) for images in made.values()} == {(2, 3, 3, 64, 64)}
    zeroed = set_sampler(zeroing(pipelines()[SELF]), CONFIG, lambda *_: {}, reuse_context=True)
    torch.testing.assert_close(zeroed(2, 3, 2), made[RECOMPUTING], atol=1e-4, rtol=0)
    assert not torch.equal(made[SELF], made[RECOMPUTING])  # the cached one drops the context instead


def test_a_cell_has_every_round_of_every_contender() -> None:
    """Bug: the warm-up among the rounds; progress that never ends; a contender that nobody asked for."""
    samplers = contenders(pipelines(), CONFIG, [DINO])
    seen: list[tuple[int, int]] = []
    laws = dict.fromkeys(samplers, NO_LAW)
    found = list(measure(samplers, laws, CONFIG, [(1, 1), (2, 1)], "cpu", lambda *at: seen.append(at)))
    assert [(own.given, own.images, own.batch) for own in found] == [(1, 1, 2), (2, 1, 2)]
    for own in found:
        assert list(own.measured) == [BASE, DINO]
        assert all(len(m.wall) == len(m.processor) == 2 and min(m.wall) > 0 for m in own.measured.values())
    assert seen == [(number, 14) for number in range(1, 15)]


def test_without_rounds_nothing_runs() -> None:
    """Bug: counting at full size that samples too, for which there are no weights."""
    samplers = contenders(pipelines(device="meta"), CONFIG, [SELF])
    found = list(measure(samplers, dict.fromkeys(samplers, NO_LAW), replace(CONFIG, rounds=0), [(4, 10)], "cpu"))
    assert found[0].measured[SELF] == Measured((), (), 0, None)
    assert found[0].seconds(SELF) is None and found[0].ratio(SELF) is None


def test_ratios_are_of_rounds_and_seconds_of_images() -> None:
    """Bug: a ratio of medians, which other work on the machine moves; a call of two sets taken for one."""
    own = cell(4, 5)
    own = replace(own, measured={**own.measured, SELF: replace(own.measured[SELF], wall=(4.0, 4.0, 4.0))})
    assert own.seconds(BASE) == 2.0 / 10
    ratio = own.ratio(SELF)
    assert ratio is not None and (ratio.median, ratio.lowest, ratio.highest) == (2.0, 1.0, 4.0)
    assert own.counted_ratio(SELF) == 2.0
    assert Cell.from_json(own.to_json()) == own


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_of_an_image_is_keys_and_values_of_every_token(dtype: torch.dtype) -> None:
    """Bug: bytes of another type than the model's, or of one layer."""
    twins = {name: without_arithmetic(pipe) for name, pipe in pipelines(dtype, "meta").items()}
    # One attention down, two up on 8x8 latents of 16 channels; one in the middle on 4x4 of 32.
    tokens_times_channels = 3 * 64 * 16 + 16 * 32
    assert cache_bytes(twins[SELF]) == 2 * tokens_times_channels * dtype.itemsize
    assert facts(twins[SELF]).weight_bytes == facts(twins[SELF]).parameters * dtype.itemsize
    assert facts(twins[BASE]).cache_bytes_per_image is None


@pytest.mark.skipif(not CLEAR.exists(), reason="this system does not forget peaks")
def test_peak_memory_is_of_this_call_alone() -> None:
    """Bug: the peak of a former, larger call, or what the process held anyway."""
    megabytes = 2**20

    def hold(size: int) -> Any:
        return lambda: torch.ones(size * megabytes, dtype=torch.uint8)

    kept = torch.ones(100 * megabytes, dtype=torch.uint8)
    large, small = (working_bytes(hold(size), "cpu") for size in (300, 80))
    assert kept.numel() and large is not None and small is not None
    assert 290 * megabytes < large < 340 * megabytes
    assert 75 * megabytes < small < 120 * megabytes


def test_saved_models_get_a_base_of_their_own_size() -> None:
    """Bug: saved models beside a base of another size, or of another type."""
    own = with_base({SELF: tiny_pipeline("self"), DINO: tiny_pipeline("dino")})
    assert list(own) == [BASE, SELF, DINO]
    theirs = [own[name].model.unet.state_dict() for name in (SELF, DINO)]
    for key, tensor in own[BASE].unet.state_dict().items():
        if ".attn2." not in key:
            assert tensor.shape == theirs[0][key].shape == theirs[1][key].shape
    samplers = contenders(own, CONFIG, [SELF, DINO])
    assert {tuple(sampler(1, 1, 1).shape) for sampler in samplers.values()} == {(2, 1, 3, 64, 64)}


def test_models_with_different_unets_are_refused() -> None:
    """Bug: one base for two sizes."""
    other = tiny_pipeline("dino")
    larger = M2MModel(unet_config=tiny_unet_config(16), variant="dino", context_dim=24)
    other.register_modules(model=larger)
    with pytest.raises(UserError, match="different U-Nets"):
        with_base({SELF: tiny_pipeline("self"), DINO: other})


def test_full_size_is_stable_diffusions_and_takes_no_memory() -> None:
    """Bug: not the parameters of Stable Diffusion 2.1 and its autoencoder; networks that nobody asked for."""
    found = random_pipelines(sd21_parts(256, "dinov2-giant"), torch.float32, "meta", names=[SELF])
    assert list(found) == [BASE, SELF] and found[SELF].image_size == 256
    assert sum(tensor.numel() for tensor in tensors_of(found[BASE]).values()) == 865_910_724 + 83_653_863
    assert all(tensor.is_meta for pipe in found.values() for tensor in tensors_of(pipe).values())


def test_samplers_stop_between_steps() -> None:
    """Bug: a signal that is looked at after the call alone, which may take an hour."""
    for sampler in contenders(pipelines(), CONFIG, list(LABELS), stop=lambda: True).values():
        with pytest.raises(Stopped):
            sampler(1, 1, 1)


@pytest.mark.parametrize("pixels", [4, 100])
def test_pixels_that_no_latents_have_are_refused(pixels: int) -> None:
    """Bug: latents of 12.5, rounded in silence."""
    with pytest.raises(UserError, match="multiple of 8"):
        latent_side(pixels, tiny_autoencoder())
    assert latent_side(64, tiny_autoencoder()) == 8


def test_an_unknown_vision_encoder_is_refused() -> None:
    """Bug: a KeyError, or a download."""
    with pytest.raises(UserError, match="no vision encoder 'clip'.*dinov2-giant"):
        encoder("clip")


def test_tables_say_what_was_measured_and_what_was_counted() -> None:
    """Bug: counted numbers under the head of measured ones; a ratio upside down; memory in bytes."""
    text = markdown(efficiency(cell(1, 1), cell(4, 5)))
    assert "| 4 | 5 | 0.2 | 0.6 | 0.6 |" in text
    assert "## Times the base, measured" in text and "| 4 | 5 | 3.000 (3.000 to 3.000) |" in text
    assert "| 4 | 5 | 2.000 | 2.000 |" in text and "| 4 | 5 | 1.00 | 1.000 (1.000 to 1.000) |" in text
    assert "| M2M-Self, cached | 12 | 0.00 MiB | 1.00 MiB |" in text and "- a note" in text
    counted = markdown(efficiency(cell(4, 5, rounds=0)))
    assert "measured" not in counted and "Seconds" not in counted and "| 4 | 5 | 2.000 | 2.000 |" in counted
    assert "x 3.00 (2.00 counted)" in cell_line(cell(4, 5))


def test_the_plot_shows_every_line_whole() -> None:
    """Bug: the first panel ends the axis that the others share, and the slowest contender is out of the picture."""
    figure = plot(efficiency(cell(1, 1), cell(1, 4), cell(4, 1, own=9.0), cell(4, 4, own=9.0)))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["1 given image", "4 given images"]
    for axes in figure.axes:
        low, high = axes.get_ylim()
        values = [value for line in axes.lines for value in line.get_ydata()]
        assert low == 0 and 0 < max(values) <= high
    assert max(max(line.get_ydata()) for line in figure.axes[3].lines) == 9.0


def test_a_record_keeps_its_cells_and_refuses_other_settings(tmp_path: Path) -> None:
    """Bug: cells of two settings in one table; a cell measured again although it is there."""
    new = efficiency()
    first = Record.open(tmp_path / "out", new.settings, new.machine, new.notes)
    assert not first.has(4, 5) and not (tmp_path / "out").exists()
    first.add(cell(4, 5), efficiency().facts)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([NUMBERS, TABLE, PLOT])
    again = Record.open(tmp_path / "out", new.settings, new.machine, new.notes)
    assert again.has(4, 5) and not again.has(5, 4) and again.text() == first.text()
    again.add(cell(1, 1), efficiency().facts)
    assert again.text().index("| 1 | 1 |") < again.text().index("| 4 | 5 |")
    with pytest.raises(UserError, match="with steps 2, not 3"):
        Record.open(tmp_path / "out", {**new.settings, "steps": 3}, new.machine, new.notes)
    with pytest.raises(UserError, match="with processor P, not Q"):
        Record.open(tmp_path / "out", new.settings, {"processor": "Q"}, new.notes)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Bug: pictures of another command overwritten, or a traceback for a foreign JSON file."""
    new = efficiency()
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no sampling.json"):
        Record.open(tmp_path, new.settings, new.machine, new.notes)
    (tmp_path / NUMBERS).write_text("{}")
    with pytest.raises(UserError, match="holds no sampling costs"):
        Record.open(tmp_path, new.settings, new.machine, new.notes)
