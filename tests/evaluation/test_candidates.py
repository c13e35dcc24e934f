"""What is asked for by name: windows and candidates."""

from pathlib import Path
from typing import NoReturn

import pytest

from m2m.evaluation.candidates import Model, Window, candidates_of, windows_of
from m2m.types import UserError
from tests.tiny import tiny_pipeline


def never() -> NoReturn:
    """Nothing here may load a model."""
    raise AssertionError("loaded")


@pytest.mark.parametrize(
    ("text", "size", "policy"),
    [
        ("all", None, "sliding"),
        ("4", 4, "sliding"),
        ("anchor:6", 6, "anchor"),
        ("sliding:3", 3, "sliding"),
        ("nearest:4", 4, "nearest"),
    ],
)
def test_windows_are_read_and_written_alike(text: str, size: int | None, policy: str) -> None:
    """A window that prints as another would file two candidates' images in one folder."""
    window = Window.parse(text)
    assert (window.size, window.policy) == (size, policy)
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize("text", ["0", "-1", "four", "anchor", "anchor:", ":4", "other:4", "anchor:0", ""])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    """It would end in a traceback of the pipeline, an hour later."""
    with pytest.raises(UserError, match="window"):
        Window.parse(text)


def test_every_model_comes_with_every_window_and_labels_tell_them_apart() -> None:
    """Two rows of one name would be taken for one."""
    models = [Model("a", "1", never), Model("b", "2", never)]
    found = candidates_of(models, [Window(), Window(4)], [Path("mine")])
    labels = ["a, window all", "a, window 4", "b, window all", "b, window 4", "mine"]
    assert [own.label for own in found] == labels
    assert [own.label for own in candidates_of(models, [Window(4)], [])] == ["a, window 4", "b, window 4"]


def test_where_nobody_asks_each_model_is_seen_through_its_own_window() -> None:
    """Numbers of a model as nobody uses it; or of another window, and the row does not say so."""
    anchored, plain = tiny_pipeline(), tiny_pipeline()
    anchored.register_to_config(default_window=2, default_window_policy="anchor")
    models = [Model("anchored", "1", lambda: anchored), Model("plain", "2", lambda: plain)]
    found = candidates_of(models, windows_of("own"), [])
    assert [own.label for own in found] == ["anchored, window anchor:2", "plain"]
    assert [own.window for own in found] == [Window(2, "anchor"), Window()]
    labels = [own.label for own in candidates_of(models[:1], windows_of("own, all"), [])]
    assert labels == ["anchored, window anchor:2", "anchored, window all"]
    with pytest.raises(UserError, match="twice"):
        candidates_of(models[1:], windows_of("own,all"), [])


def test_nothing_to_evaluate_and_the_same_twice_are_refused() -> None:
    """An evaluation of floors alone would end well and say nothing."""
    with pytest.raises(UserError, match="--model"):
        candidates_of([], [Window()], [])
    with pytest.raises(UserError, match="twice"):
        candidates_of([Model("a", "1", never)] * 2, [Window()], [])
