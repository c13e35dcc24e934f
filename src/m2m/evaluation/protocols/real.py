"""Figure 5 of the paper: models trained on generated sets continue sets of real pictures that share a category."""

from __future__ import annotations

from m2m.evaluation.protocols.protocol import Protocol


class Real(Protocol):
    """Section 8.3. Data: shards of `m2m data coco`; without any, pictures by an artist never trained on."""

    name = "real"
    title = "Figure 5: pictures of a kind never trained on"
    reading = (
        "The given pictures are of a source that the model never saw: photographs by category, or on the tiny world "
        "the drawings of an artist kept out of training. What they share should still be there in what follows them."
    )
    split = "unseen-artist"
    images = 4
