"""Measures of procedures on pictures whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.features.extractor import find_extractor
from m2m.evaluation.result import Role
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.tasks.sources import After, all_images
from m2m.evaluation.tasks.steps import FINISHED, KEPT, OVERLAP, RIGHT, StepScorer, kept_share, part_overlap
from m2m.evaluation.work import Work
from tests.evaluation.tasks.figures import BLUE, GREEN, RED, picture, procedures

OLD = ((8, 8, RED), (40, 8, GREEN))
NEW = (8, 40, BLUE)
LAST, TRUE = picture(*OLD)[None], picture(*OLD, NEW)[None]


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures of a set's own truth, from some step on."""

    sets: EvaluationSets
    first: int
    images: int = 2
    name: str = "shown"
    role: Role = "model"
    note: str = ""

    def pictures(self, i: int) -> Tensor:
        """uint8 [N, H, W, 3], fewer where the set ends."""
        return all_images(self.sets[i])[self.first : self.first + self.images]


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ((*OLD, NEW), 1.0),
        ((*OLD, (40, 40, BLUE)), 1.0),
        (OLD, 1.0),
        ((OLD[0], NEW), 0.5),
        ((OLD[0], (40, 28, GREEN), NEW), 0.5),
        ((NEW,), 0.0),
        ((*OLD, (8, 8, BLUE)), 0.5),
    ],
    ids=["true", "part elsewhere", "copy", "a part lost", "a part moved", "all lost", "painted over"],
)
def test_old_parts_are_kept_lost_or_moved(made: tuple, kept: float) -> None:
    """Guards against a share over the background, which is always kept, and one that sees no part move."""
    assert kept_share(LAST, picture(*made)[None], TRUE).item() == pytest.approx(kept, abs=0.06)  # the rim of a block


def test_a_small_shift_costs_a_small_share() -> None:
    """Guards against all or nothing: a drawing that moved by 4 of its 16 pixels has lost a quarter, and a rim."""
    moved = picture(*((left + 4, top, colour) for left, top, colour in OLD), NEW)
    assert 0.5 < kept_share(LAST, moved[None], TRUE).item() < 0.8


def test_what_the_true_step_paints_over_needs_not_be_kept() -> None:
    """Guards against a punished truth: steps put new parts over old ones."""
    true = picture(*OLD, (8, 8, BLUE))[None]
    assert kept_share(LAST, true, true).item() == 1.0
    whole = picture((8, 8, BLUE))[None]
    assert kept_share(picture((8, 8, RED))[None], whole, whole).isnan().item(), "nothing old is left to be kept"


@pytest.mark.parametrize(
    ("made", "overlap"),
    [
        ((*OLD, NEW), 1.0),
        ((*OLD, (12, 40, BLUE)), 0.6),
        ((*OLD, (40, 40, BLUE)), 0.0),
        (OLD, 0.0),
        ((*OLD, NEW, (40, 40, RED)), 0.5),
        ((OLD[0], NEW), 0.5),
    ],
    ids=["true", "a little beside", "wrong place", "copy", "another part too", "a lost part is a change too"],
)
def test_a_new_part_is_at_the_right_place_or_not(made: tuple, overlap: float) -> None:
    """Guards against a part anywhere that counts as the next one, and a copy that scores."""
    assert part_overlap(LAST, picture(*made)[None], TRUE).item() == pytest.approx(overlap, abs=0.06)


def test_a_step_that_changes_nothing_has_no_right_part() -> None:
    """Guards against 0% for every answer where the truth repeats a picture."""
    assert part_overlap(LAST, TRUE, LAST).isnan().item()


def softened(pictures: Tensor) -> Tensor:
    """Blurred as an autoencoder does, but for its artefacts."""
    soft = torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1).float(), 5, 1, 2, count_include_pad=False)
    return soft.movedim(1, -1).round().to(torch.uint8)


def test_what_the_autoencoder_does_to_the_given_picture_too_is_no_change() -> None:
    """Guards against a measure of the autoencoder: soft edges are neither lost parts nor new ones."""
    last, made = torch.cat([LAST, softened(LAST)]), softened(TRUE)
    assert kept_share(last, made, TRUE).item() == 1 > 0.85 > kept_share(LAST, made, TRUE).item()
    assert part_overlap(last, made, TRUE).item() > 0.75 > part_overlap(LAST, made, TRUE).item()
    assert kept_share(last, softened(picture(OLD[0], NEW)[None]), TRUE).item() == pytest.approx(0.5, abs=0.06)


def test_each_picture_is_compared_with_the_step_that_it_should_be(tmp_path: Path) -> None:
    """Guards against a step taken for the next one, a truth behind the end of a set, and a wrong last given picture."""
    sets = procedures(tmp_path / "shards", [5, 4, 3])
    scorer = StepScorer(sets, [])
    sources = {
        "next": After(Shown(sets, 2), 2),
        "after one": After(Shown(sets, 1), 1),
        "late": After(Shown(sets, 3), 2),
        "copy": After(Shown(sets, 1), 2),
    }
    scorer.extract(list(sources.values()), Work())
    found = {name: {own.name: own.per_set for own in scorer.score(source).scores} for name, source in sources.items()}
    assert found["next"][RIGHT].nan_to_num(-1).tolist() == [[100, 100], [100, 100], [100, -1]]
    assert found["next"][KEPT].nanmean() == 100 == found["after one"][RIGHT].nanmean()
    assert found["late"][OVERLAP][0, 0] == pytest.approx(50, abs=6), "two parts where one was asked for"
    assert found["copy"][RIGHT][:, 0].tolist() == [0, 0, 0]


def test_the_finished_picture_is_looked_for_among_those_of_all_sets(tmp_path: Path) -> None:
    """Guards against a last step that is compared before it is the last, or with its own truth alone."""
    sets = procedures(tmp_path / "shards", [5, 4, 4])
    cache = FeatureCache(tmp_path / "features", find_extractor("gram"))
    scorer = StepScorer(sets, [cache])
    own, others = After(Shown(sets, 2, images=3), 2), After(Another(sets, 2, images=3), 2)
    scorer.extract([own, others], Work())
    per_set = {
        source: next(found.per_set for found in scorer.score(source).scores if found.name == FINISHED)
        for source in (own, others)
    }
    assert per_set[own].nan_to_num(-1).tolist() == [[-1, -1, 100], [-1, 100, -1], [-1, 100, -1]]
    assert per_set[others].nansum() == 0


class Another(Shown):
    """The same of another set, at its full length."""

    def pictures(self, i: int) -> Tensor:
        """The last step of the next set, as often as this set has steps."""
        count = len(all_images(self.sets[i])) - self.first
        return all_images(self.sets[(i + 1) % len(self.sets)])[-1:].repeat(count, 1, 1, 1)
