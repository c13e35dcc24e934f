"""How far remembering the training data gets with "right next part": the nearest training step, and what came after it.

    python benchmarks/next_part_lookup.py --train drawings/train --data drawings/test
    python benchmarks/next_part_lookup.py --train drawings/train --data drawings/test --given 4 --nearest 1,5,25

A model that only remembers can hardly do better than to look up the training picture most like the last given one, and
to change what was changed there. Right, as in `m2m eval --protocol visual-procedure`: that overlaps what the true next
step changes by half or more. "best of 5" may choose among the five nearest knowing the answer, which no model can.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.tasks.marks import changed, smoothed
from m2m.evaluation.tasks.sources import all_images
from m2m.evaluation.tasks.steps import ENOUGH
from m2m.types import UserError

MOST_STEPS = 20  # of a procedure that are read
CELLS = 16  # pictures are compared from afar, in so many cells a side


def steps_of(data: str) -> list[Tensor]:
    """The steps of every procedure in shards of pictures, uint8 [S, H, W, 3] each."""
    return [all_images(own) for own in EvaluationSets(data, given=2, real=MOST_STEPS - 2)]


def from_afar(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> [N, D], whose distances say how much pictures differ."""
    return F.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2).float(), CELLS).flatten(1)


def change(before: Tensor, after: Tensor) -> Tensor:
    """Where pictures [N, H, W, 3] show what those before them do not: bool [N, S, S]."""
    pairs = zip(smoothed(before), smoothed(after), strict=True)
    return torch.stack([changed(new[None], old[None])[0] for old, new in pairs])


def overlaps(wanted: Tensor, found: Tensor) -> Tensor:
    """Intersection over union of a mask [S, S] with each of [N, S, S]: [N], 0 to 1."""
    return (wanted & found).sum((1, 2)) / (wanted | found).sum((1, 2))


def look_up(known: Sequence[Tensor], asked: Sequence[Tensor], given: int, nearest: int) -> Tensor:
    """For each asked procedure longer than `given` steps the overlaps with its true next part of what the `nearest`
    known steps were changed in, the nearest first: [P, nearest]."""
    before, after = torch.cat([own[:-1] for own in known]), torch.cat([own[1:] for own in known])
    seen = from_afar(before)
    found = []
    for own in asked:
        if len(own) > given:
            last = own[given - 1 : given]
            order = torch.cdist(from_afar(last), seen)[0].topk(nearest, largest=False).indices
            wanted = change(last, own[given : given + 1])[0]
            found.append(overlaps(wanted, change(before[order], after[order])))
    return torch.stack(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each number of given steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="shards of procedures to look up")
    parser.add_argument("--data", required=True, help="shards of procedures that are asked for")
    parser.add_argument("--given", default="1,2,3,4", help="numbers of given steps")
    parser.add_argument("--nearest", default="1,5", help="how many of the nearest one may choose from")
    options = parser.parse_args(arguments)
    given, choices = ([int(number) for number in text.split(",")] for text in (options.given, options.nearest))
    known, asked = steps_of(options.train), steps_of(options.data)
    print(f"{len(known)} known procedures, {len(asked)} asked for")
    for steps in given:
        found = look_up(known, asked, steps, max(choices))
        right = [f"best of {n}: {100 * (found[:, :n] >= ENOUGH).any(1).float().mean():.1f}% right" for n in choices]
        print(f"{steps} given, {len(found)} procedures: overlap {100 * found[:, 0].mean():.1f}, {', '.join(right)}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, ValueError) as error:
        sys.exit(f"next_part_lookup: {error}")
