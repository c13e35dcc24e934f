"""Table 1 of the paper: 4 given images, 10 generated, every measure at every position, mean and deviation over them."""

from __future__ import annotations

from m2m.evaluation.protocols.protocol import Protocol


class Table1(Protocol):
    """Section 8.4."""

    name = "table1"
    title = "Table 1: ten images that continue four"
    reading = (
        "Each figure is the mean over the positions, with its standard deviation over them. A model should stand close "
        "to the further images of the same sets (ceiling) and clear of every floor: images of another set's context, "
        "images made from nothing, and copies of the last given image, which are consistent but add nothing."
    )
