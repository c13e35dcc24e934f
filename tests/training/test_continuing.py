"""Which runs may go on from a checkpoint, and what is said of those that may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.config import config_dict
from m2m.training.autoencoder_task import AutoencoderConfig
from m2m.training.continuing import FREE_KEYS, ORDER_KEYS, check_config, differing_keys, filled
from m2m.training.image_sets import TrainConfig
from m2m.types import UserError

FOLDER = Path("runs/self/checkpoints/step-00000100")


def settings(**changes: Any) -> dict[str, Any]:
    return {**config_dict(TrainConfig), "data": "shards", **changes}


def test_free_keys_are_settings() -> None:
    """Guards against a misspelt or forgotten name, whose setting would end every run that changes it."""
    known = config_dict(TrainConfig).keys() | config_dict(AutoencoderConfig).keys()
    assert (FREE_KEYS | set(ORDER_KEYS)) <= known
    moved = dict.fromkeys(FREE_KEYS, "other")
    assert differing_keys(settings(), settings(**moved)) == []


def test_what_moves_the_weights_is_not_free() -> None:
    """Guards against a run whose config does not say how its weights were trained."""
    found = settings()
    free = {key for key in found if not differing_keys(found, {**found, key: "other"})}
    assert free == FREE_KEYS
    assert not free & {"precision", "optimizer", "batch_sets", "trainable", "learning_rate", "seed", "data", "variant"}


def test_nested_keys_are_named_with_both_values() -> None:
    """Guards against a message that names the block, not the setting in it."""
    wanted = settings()
    wanted["objective"] = {**wanted["objective"], "context_dropout": 0.5}
    wanted["variant"] = "dino"
    with pytest.raises(UserError) as caught:
        check_config(FOLDER, settings(), wanted)
    text = str(caught.value)
    assert "objective.context_dropout was 0.1, now 0.5" in text and "variant was '', now 'dino'" in text
    assert text.startswith(f"'{FOLDER}' is of another config") and text.endswith(f"branch={FOLDER}")


def test_the_end_of_a_constant_rate_may_move() -> None:
    """Guards against a cosine that is resumed with another length and jumps, and a trunk that cannot be prolonged."""
    check_config(FOLDER, settings(steps=5), settings(steps=9))
    with pytest.raises(UserError, match="steps was 5, now 9"):
        check_config(FOLDER, settings(steps=5, schedule="cosine"), settings(steps=9, schedule="cosine"))


def test_defaults_fill_what_an_older_version_did_not_know() -> None:
    """Guards against nested settings that are new, and against a default that replaces what was set."""
    older = {"steps": 5, "objective": {"noise_draws": 2}}
    complete = filled(older, {"steps": 9, "clip": 1.0, "objective": {"noise_draws": 1, "gamma": 0.0}})
    assert complete == {"steps": 5, "clip": 1.0, "objective": {"noise_draws": 2, "gamma": 0.0}}
