"""What leaves a run: grids of the same sets each time, and a pipeline with the averaged weights of all processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from m2m.cli.exporting import GENERATED, GIVEN, export_pipeline, sample_grids
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.pipeline import M2MPipeline
from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.step import Optimisation
from m2m.training.trainable import set_trainable
from m2m.types import UserError
from tests.data.reading.toy_shards import full_sets, toy_conditions, write_folder
from tests.tiny import tiny_pipeline, tiny_task_model
from tests.toy_shards import write_toy_shards
from tests.training.set_runs import Places
from tests.training.toys import in_processes

WORLD = "world:mini:validation:2"


def optimisation_of(pipe: M2MPipeline, processes: Processes) -> Optimisation:
    """A run of that pipeline whose averages are the weights plus one, and not the weights."""
    optimisation = Optimisation(pipe.model, LoopConfig(steps=100), 100, processes)
    for average in optimisation.average.tensors().values():
        average += 1
    return optimisation


def export(folder: Path, parallel: str = "ddp", trainable: str = "all", precision: str = "float32") -> M2MPipeline:
    """Export a tiny pipeline from the processes that there are; gives it as it is afterwards."""
    pipe = tiny_pipeline()
    set_trainable(pipe.model, trainable, frozen_precision=precision)
    with Processes(LoopConfig(parallel=parallel)) as processes:
        export_pipeline(pipe, optimisation_of(pipe, processes), folder / "export")
    return pipe


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model" / "diffusion_pytorch_model.safetensors")


def test_the_averages_are_exported_and_training_keeps_its_weights(tmp_path: Path) -> None:
    """The last weights instead of the averaged ones, or a run that goes on with rounded weights."""
    pipe, fresh = export(tmp_path), tiny_pipeline().model.state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in pipe.model.state_dict().items())
    found = exported(tmp_path)
    assert found.keys() == fresh.keys() and {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert all(torch.equal(found[name], (tensor + 1).half()) for name, tensor in fresh.items())
    loaded = load_pipeline(find_model(str(tmp_path / "export")), "cpu")
    assert loaded.config.default_guidance_scale == pipe.config.default_guidance_scale


def test_what_was_frozen_is_exported_as_it_was(tmp_path: Path) -> None:
    """Names, dtypes or averages of another kind for the weights that were not trained."""
    export(tmp_path, trainable="image_set_attention", precision="bfloat16")
    found, model = exported(tmp_path), tiny_pipeline().model
    trained = {id(parameter) for parameter in model.image_set_attention_parameters()}
    for name, parameter in model.named_parameters():
        frozen = parameter.bfloat16() if parameter.ndim > 1 else parameter
        assert torch.equal(found[name], (parameter + 1 if id(parameter) in trained else frozen).half()), name


def parted(rank: int, folder: Path) -> None:
    """Export from two processes that hold a part of every tensor each."""
    export(folder, parallel="fsdp")


def test_parts_of_two_processes_are_exported_whole(tmp_path: Path) -> None:
    """A file that holds the part of one process, or two processes that write one folder."""
    in_processes(2, parted, tmp_path)
    export(tmp_path / "alone")
    found, wanted = exported(tmp_path), exported(tmp_path / "alone")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_grids_show_the_same_sets_each_time() -> None:
    """Grids of two steps that differ in their sets or their noise cannot be compared."""
    grids = sample_grids(tiny_pipeline(), WORLD, steps=1, guidance=2.0)
    first, again = grids(1)["samples"], grids(7)["samples"]
    assert first.dtype == np.uint8 and np.array_equal(first, again)
    assert first.shape[0] > 2 * 64 and first.shape[1] > (GIVEN + GENERATED) * 64
    assert not np.array_equal(first, sample_grids(tiny_pipeline(), WORLD + ":1", steps=1, guidance=2.0)(1)["samples"])


def task_grid(folder: Path, images: int, ordered: bool = False, short: int = 0, shift: float = 0.0) -> np.ndarray:
    """A grid of four sets with conditions, of which the first `short` have but three images. shift: of conditions."""
    sets = full_sets(4, images) | full_sets(short, 3)
    conditions = {key: toy_conditions(key, images) for key in sets}
    for one in conditions.values():
        one["values"] = [[number + shift for number in row] for row in one["values"]]
    data = write_folder(folder, sets, conditions=conditions)
    pipe = tiny_pipeline(model=tiny_task_model())
    task = Places()
    task.ordered = ordered
    return np.asarray(sample_grids(pipe, data, steps=1, guidance=2.0, task=task)(1)["samples"])


def test_grids_of_a_task_show_true_images_beside_those_made(tmp_path: Path) -> None:
    """Views that are asked from other cameras than those of the true pictures beside them; or none to compare with."""
    grid = task_grid(tmp_path / "views", images=6)
    pictures = 1 + 2 * GENERATED
    assert pictures * 64 < grid.shape[1] < (pictures + 2) * 64
    true = Image.fromarray(grid).crop((grid.shape[1] - 40, grid.shape[0] - 40, grid.shape[1] - 10, grid.shape[0] - 10))
    red, green = np.asarray(true)[..., :2].reshape(-1, 2).mean(axis=0)
    assert (round(red), round(green)) == (3, GENERATED), "the last row is set 3, its last picture number 4"


def test_grids_of_procedures_leave_short_ones_out(tmp_path: Path) -> None:
    """A first grid that ends the run, because some procedure has fewer steps than are shown."""
    grid = task_grid(tmp_path / "steps", images=6, ordered=True, short=1)
    pictures = 2 + 2 * GENERATED
    assert pictures * 64 < grid.shape[1] < (pictures + 2) * 64 and 3 * 64 < grid.shape[0] < 4 * 64


def test_grids_hear_of_their_conditions(tmp_path: Path) -> None:
    """A grid that is made without what the model was fine-tuned for."""
    first, longer = (task_grid(tmp_path / str(images), images) for images in (6, 7))
    assert np.array_equal(first, longer), "the seventh image is none of the grid's"
    assert not np.array_equal(first, task_grid(tmp_path / "others", images=6, shift=2.0))


def test_a_task_model_is_exported_with_its_condition_and_guidance(tmp_path: Path) -> None:
    """A pipeline that does not know what it was fine-tuned for; or that follows it by another scale than was shown."""
    pipe = tiny_pipeline(model=tiny_task_model())
    pipe.register_to_config(default_guidance_scale=3.0, default_condition_guidance_scale=4.5)
    pipe.register_to_config(default_window=4, default_window_policy="anchor")
    with Processes(LoopConfig()) as processes:
        export_pipeline(pipe, optimisation_of(pipe, processes), tmp_path / "export")
    loaded = load_pipeline(find_model(str(tmp_path / "export")), "cpu")
    assert loaded.model.condition == pipe.model.condition is not None
    assert (loaded.config.default_guidance_scale, loaded.config.default_condition_guidance_scale) == (3.0, 4.5)
    assert (loaded.config.default_window, loaded.config.default_window_policy) == (4, "anchor")


def test_grids_need_enough_pictures(tmp_path: Path) -> None:
    """Latents, or sets that are too small, that fail at the first grid, an hour into the run."""
    latents, small = write_toy_shards(tmp_path / "latents"), write_folder(tmp_path / "small", full_sets(2, 3))
    with pytest.raises(UserError, match="holds latents; sample grids need pictures"):
        sample_grids(tiny_pipeline(), latents, steps=1, guidance=2.0)
    with pytest.raises(UserError, match="has 3 images, 4 are wanted"):
        sample_grids(tiny_pipeline(), small, steps=1, guidance=2.0)
