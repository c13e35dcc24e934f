"""Quality of generated sets, judged by the probe: what the caption fixed must be there, what it left free must vary.

    right         share of images that show what the caption fixed, by attribute, at the first and at the last place
    freedom       entropy of a free attribute over the images of a set, as a ratio: mean over the sets / the same mean
                  of rendered sets of the same size, read by the same probe
    near-copies   share of images whose closest given image is closer than the closest pair of a rendered set

Nothing here knows a model: images [S, N, 3, H, W] of S held-out sets are all that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from m2m.data.worlds import Caption, World
from m2m.data.worlds.vocabulary import subjects
from m2m.evaluation.truth.held_out import HeldOutSet, distances
from m2m.evaluation.truth.probe import TruthProbe

Readings = dict[str, Tensor]  # attribute -> what the probe read off each image, int64 [S, N]


@dataclass(frozen=True)
class Quality:
    """Figures of one model. Pairs are of the first and the last generated image of a set.

    right: attribute -> shares (None: no caption fixes it), over the `fixed` sets whose captions fix it. freedom:
    attribute -> ratio of entropies (1: as free as rendered sets; None: no caption leaves it free), over `free` sets.
    near_copies: shares.
    """

    sets: int
    right: dict[str, tuple[float, float] | None]
    fixed: dict[str, int]
    freedom: dict[str, float | None]
    free: dict[str, int]
    near_copies: tuple[float, float] | None


def score(sets: Sequence[HeldOutSet], images: Tensor, rendered: Readings, probe: TruthProbe, world: World) -> Quality:
    """Score images [S, N, 3, H, W] that continue `sets`. rendered: what the probe read off rendered sets, [S, N]."""
    found = read(images, probe)
    captions = [held_out.caption for held_out in sets]
    right = right_by_set(found, captions, world)
    free = {
        name: torch.tensor([name in free_attributes(caption, world) for caption in captions])
        for name in world.attributes
    }
    return Quality(
        sets=len(sets),
        right={name: _first_and_last(own) for name, own in right.items()},
        fixed={name: len(own) for name, own in right.items()},
        freedom={name: entropy_ratio(found[name][own], rendered[name][own]) for name, own in free.items()},
        free={name: int(own.sum()) for name, own in free.items()},
        near_copies=_first_and_last(near_copies(sets, images)),
    )


def read(images: Tensor, probe: TruthProbe) -> Readings:
    """What the probe reads off images [S, N, 3, H, W]: indices into the world's values, [S, N] by attribute."""
    found = probe.classify(images.flatten(0, 1))
    return {name: indices.unflatten(0, images.shape[:2]) for name, indices in found.items()}


def right_by_set(found: Readings, captions: Sequence[Caption], world: World) -> dict[str, Tensor]:
    """Which images show what their caption fixed: bool [sets whose caption fixes it, N] by attribute."""
    right = {}
    for name, values in world.attributes.items():
        chosen = [s for s, caption in enumerate(captions) if name in caption.fixed]
        wanted = torch.tensor([values.index(captions[s].fixed[name]) for s in chosen], dtype=torch.long)
        right[name] = found[name][chosen] == wanted[:, None]
    return right


def free_attributes(caption: Caption, world: World) -> set[str]:
    """Attributes that differ within a rendered set of this caption.

    A caption that names a category alone leaves the subject free in words only, where the category has just one subject
    of the kind ("unseen birds" in the mini world).
    """
    pool = world.pool(caption)
    choices = {"subject": len(pool), "category": len({subjects()[name].category for name in pool})}
    return {name for name in world.attributes if name not in caption.fixed and choices.get(name, 2) > 1}


def entropy_ratio(found: Tensor, rendered: Tensor) -> float | None:
    """Mean entropy of sets [S, N] over that of rendered sets of the same size [S, N]; None where those have none.

    Both are read by the same probe off as many images: the entropy of a few draws is too small, for both alike.
    """
    if found.shape != rendered.shape:
        raise ValueError(f"entropies of {list(found.shape)} and {list(rendered.shape)} images cannot be compared")
    reference = float(entropies(rendered).mean()) if len(rendered) else 0.0
    return float(entropies(found).mean()) / reference if reference > 0 else None


def entropies(indices: Tensor) -> Tensor:
    """Entropy, in nats, of the values of each set: int64 [S, N] -> float64 [S]."""
    same = (indices[:, :, None] == indices[:, None, :]).double().mean(2)  # [S, N]: share of the set that shows the same
    return -same.log().mean(1)  # = -sum over values of p log p


def near_copies(sets: Sequence[HeldOutSet], images: Tensor) -> Tensor:
    """Which images [S, N, 3, H, W] are closer to a given image than the reference's closest pair: bool [S, N]."""
    nearest = [distances(own, held_out.given).amin(1) for own, held_out in zip(images, sets, strict=True)]
    limits = torch.tensor([held_out.closest_pair for held_out in sets])
    return torch.stack(nearest) < limits[:, None]


def share_right(found: Readings, captions: Sequence[Caption], world: World) -> Tensor:
    """Share of the fixed attributes that each set's images show, float [S]: which sets are good and which are not."""
    right, of = torch.zeros(len(captions)), torch.zeros(len(captions))
    for name, values in world.attributes.items():
        for s, caption in enumerate(captions):
            if name in caption.fixed:
                right[s] += (found[name][s] == values.index(caption.fixed[name])).float().mean()
                of[s] += 1
    return right / of


def accuracy_table(rows: Mapping[str, Quality]) -> str:
    """Markdown: shares right and near-copies in percent, first / last image, a row a model."""
    names = list(next(iter(rows.values())).right)
    counts = next(iter(rows.values())).fixed
    heads = ["right in, % (1st / last image)", *(f"{name} (of {counts[name]})" for name in names), "near-copies"]
    body = [
        [label, *(_percents(own.right[name]) for name in names), _percents(own.near_copies)]
        for label, own in rows.items()
    ]
    return _markdown(heads, body)


def freedom_table(rows: Mapping[str, Quality]) -> str:
    """Markdown: entropy of the free attributes in percent of that of rendered sets, a row a model."""
    first = next(iter(rows.values()))
    names = [name for name, ratio in first.freedom.items() if ratio is not None]
    heads = ["free entropy, % of rendered", *(f"{name} (of {first.free[name]})" for name in names)]
    body = [[label, *(_percent(own.freedom[name]) for name in names)] for label, own in rows.items()]
    return _markdown(heads, body)


def _first_and_last(flags: Tensor) -> tuple[float, float] | None:
    """Shares of bool [S, N] at the first and the last place; None where there is no set."""
    if not len(flags):
        return None
    shares = flags.float().mean(0)
    return float(shares[0]), float(shares[-1])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def _percents(shares: tuple[float, float] | None) -> str:
    return "-" if shares is None else " / ".join(_percent(share) for share in shares)


def _markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [list(heads), ["---", *("---:" for _ in heads[1:])], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
