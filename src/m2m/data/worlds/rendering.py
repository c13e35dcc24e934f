"""Pictures of numbered sets: the seed of each image, and rendering many sets in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from m2m.data.worlds.world import World

Images = NDArray[np.uint8]
Job = tuple[str, Sequence[int]]  # a caption, and the seed of each of its images


def image_seed(seed: int, set_index: int, image: int) -> int:
    """The seed of one image of one set: the same one however many images and sets there are."""
    return int(np.random.SeedSequence((seed, set_index, image)).generate_state(1)[0])


def render_sets(
    world: str, captions: Sequence[str], seeds: Sequence[Sequence[int]], size: int, workers: int
) -> Iterator[Images]:
    """uint8 [N, size, size, 3] for each caption, in order, rendered in `workers` processes (0: in this one)."""
    jobs = list(zip(captions, seeds, strict=True))
    render = partial(_render_set, world, size)
    if workers == 0:
        yield from map(render, jobs)
        return
    # Spawned, not forked: a fork of a process whose torch threads are running may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(render, jobs, chunksize=4)


def _render_set(world: str, size: int, job: Job) -> Images:
    caption, seeds = job
    return np.stack(_world(world).sample_set(caption, seeds, size))


@cache
def _world(name: str) -> World:
    """Kept between sets: it remembers which subjects a caption may show."""
    return World.load(name)
