"""The YAML files under configs/: each loads into its dataclass, and those of the paper hold the paper's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.cli.probe_task import ProbeConfig
from m2m.config import load_config
from m2m.tasks.known import TASKS
from m2m.training.autoencoder_task import AutoencoderConfig
from m2m.training.image_sets import TrainConfig
from m2m.training.loop import LoopConfig
from m2m.training.optimizer import check_step_config
from m2m.training.trainable import check_trainable

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
KINDS: dict[str, type[LoopConfig]] = {"autoencoder": AutoencoderConfig, "probe": ProbeConfig}
# Section 7.1.1: sets of the one epoch.
SETS = {"self": 9_000_000, "dino": 6_000_000}


def sd21(name: str) -> TrainConfig:
    return load_config(TrainConfig, ROOT / "configs" / "sd21" / f"{name}.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_is_a_config(path: Path) -> None:
    """Bug: a field is renamed, and the first to notice is who starts a run of days."""
    config = load_config(KINDS.get(path.stem, TrainConfig), path)
    check_step_config(config, config.steps)
    if isinstance(config, TrainConfig):
        check_trainable(config.trainable, config.lora_rank, config.frozen_precision, config.precision)


def test_there_are_configs() -> None:
    """Bug: a moved folder, of which the test above finds nothing wrong."""
    pre_training = {f"{variant}{form}" for variant in SETS for form in ("", "-256px", "-24gb")}
    assert {path.stem for path in CONFIGS if path.parent.name == "sd21"} == pre_training | set(TASKS)
    assert {path.stem for path in CONFIGS if path.parent.name == "tiny"} > set(TASKS)


@pytest.mark.parametrize("variant", list(SETS))
@pytest.mark.parametrize("form", ["", "-256px"])
def test_the_paper_s_run(variant: str, form: str) -> None:
    """Bug: a number that drifts from the paper while somebody tries something out."""
    config = sd21(variant + form)
    assert abs(config.steps * config.batch_sets - SETS[variant]) < config.batch_sets  # one epoch
    assert (config.variant, config.batch_sets, config.images_per_set, config.trainable) == (variant, 256, 5, "all")
    assert (config.learning_rate, config.schedule, config.warmup_steps) == (1e-5, "constant", 0)
    assert config.objective.context_dropout == 0.1
    # Of the Stable Diffusion code: PyTorch's AdamW, no clipping, LitEma.
    assert (config.beta1, config.beta2, config.weight_decay, config.gradient_clip) == (0.9, 0.999, 0.01, 0)
    assert (config.ema_decay, config.optimizer) == (0.9999, "adamw")
    assert (config.sample_steps, config.sample_guidance) == (50, 7.5)


@pytest.mark.parametrize("variant", list(SETS))
def test_eight_gpus_share_the_batch_evenly(variant: str) -> None:
    """Bug: a micro-batch that does not go into a GPU's share, which is refused after the model is loaded."""
    for form in ("", "-256px"):
        config = sd21(variant + form)
        assert config.batch_sets % (8 * config.micro_batch_sets) == 0


@pytest.mark.parametrize("variant", list(SETS))
def test_the_small_card_trains_image_set_attention_beside_a_half_precision_base(variant: str) -> None:
    """Bug: a default that changes under the file, and 24 GB that do not suffice any more."""
    config = sd21(f"{variant}-24gb")
    assert (config.trainable, config.frozen_precision, config.precision) == (
        "image_set_attention",
        "bfloat16",
        "bfloat16",
    )
    assert config.batch_sets % config.micro_batch_sets == 0


@pytest.mark.parametrize("variant", list(SETS))
def test_the_smaller_size_differs_in_places_and_turns_alone(variant: str) -> None:
    """Bug: one of two near copies is edited, and the comparison of sizes is one of settings."""
    large, small = sd21(variant), sd21(f"{variant}-256px")
    differing = {name for name in vars(large) if getattr(large, name) != getattr(small, name)}
    assert differing == {"base", "data", "out", "export", "micro_batch_sets"}


@pytest.mark.parametrize("task", list(TASKS))
def test_a_task_is_fine_tuned_as_its_base_was_trained(task: str) -> None:
    """Bug: a comparison of fine-tuning with pre-training that is one of optimisers; or the paper's dropout lost."""
    config, base = sd21(task), sd21("self-256px")
    own = {"base", "task", "data", "validation", "out", "export", "steps", "too_few", "sample_condition_guidance"}
    assert {name for name in vars(base) if getattr(config, name) != getattr(base, name)} <= own
    assert config.task == task and config.base == base.export
    assert (config.objective.context_dropout, config.objective.condition_dropout) == (0.1, 0.1)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_tiny_tasks_start_from_the_shipped_model(task: str) -> None:
    """Bug: a base that only its maker has, or latents that another autoencoder made."""
    config = load_config(TrainConfig, ROOT / "configs" / "tiny" / f"{task}.yaml")
    assert (config.task, config.base, config.from_scratch) == (task, "tiny-self", False)
    assert config.schedule == "wsd" and config.cooldown_steps < config.steps
    assert (config.objective.context_dropout, config.objective.condition_dropout) == (0.1, 0.1)
