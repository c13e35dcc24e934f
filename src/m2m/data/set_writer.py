"""Image sets of a rendered world to arrays on disk: the training data of the tiny models.

A folder of sets holds `latents.npy` (float16 [S, N, C, h, w], scaled as the U-Net sees them), and on demand
`features.npy` (float16 [S, N, tokens, D], a vision encoder's) and `images.npy` (uint8 [S, N, H, W, 3]). `sets.json`
says what they are and is written last: a folder without it is not complete. `progress.json` counts the sets that are
safely on the disk, so a run that was cut off continues at the next chunk.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import read_json, write_json
from m2m.data.stored import MARKER
from m2m.types import UserError

Images = NDArray[np.uint8]
Arrays = dict[str, NDArray[Any]]
Encode = Callable[[Images], Arrays]
Progress = Callable[[int, int], None]

PROGRESS = "progress.json"


@dataclass(frozen=True)
class SetsConfig:
    """What a folder of sets holds; every field but the chunk length is part of the data's identity.

    world: name of a rendered world; split: its split; sets, images: how many, and images of each; size: pixels;
    seed: draws captions and, per image, what a caption leaves free; encoders: name -> hash of the weights that encode.
    """

    world: str = "mini"
    split: str = "train"
    sets: int = 6000
    images: int = 5
    size: int = 64
    seed: int = 0
    arrays: tuple[str, ...] = ("latents",)
    encoders: tuple[tuple[str, str], ...] = ()


def image_seeds(seed: int, set_index: int, images: int) -> list[int]:
    """Seeds of the images of one set; image j has the same seed however many images the set has."""
    return [int(np.random.SeedSequence((seed, set_index, j)).generate_state(1)[0]) for j in range(images)]


def render_sets(
    world: str, captions: Sequence[str], seeds: Sequence[Sequence[int]], size: int, workers: int
) -> Iterator[Images]:
    """uint8 [N, size, size, 3] for each caption, in order, rendered in `workers` processes (0: in this one)."""
    jobs = list(zip(captions, seeds, strict=True))
    if workers == 0:
        _open_world(world)
        yield from (_render_set(job, size) for job in jobs)
        return
    # Spawned, not forked: a fork of a process whose torch threads are running may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_open_world, initargs=(world,)) as pool:
        yield from pool.map(partial(_render_set, size=size), jobs, chunksize=4)


def write_sets(
    out: str | Path,
    config: SetsConfig,
    encode: Encode,
    *,
    workers: int = 0,
    chunk: int = 64,
    progress: Progress | None = None,
) -> Path:
    """Render, encode and store `config.sets` sets; continues a run that was cut off; returns the folder.

    encode: uint8 [M, H, W, 3] -> the arrays of `config.arrays` but `images`, each [M, ...].
    progress: called with (sets done, sets in all).
    Raises UserError where the folder holds other data, or the world has too few captions.
    """
    folder = Path(out)
    identity = _identity(config)
    if (folder / MARKER).exists():
        _check_identity(read_json(folder / MARKER)["settings"], identity, folder)
        return folder
    captions = _captions(config)
    seeds = [image_seeds(config.seed, i, config.images) for i in range(config.sets)]
    done = _start(folder, identity)
    rendered = render_sets(config.world, captions[done:], seeds[done:], config.size, workers)
    while part := list(islice(rendered, chunk)):
        _store(folder, config, done, _encoded(np.stack(part), encode, config.arrays))
        done += len(part)
        write_json(folder / PROGRESS, {"settings": identity, "done": done})
        if progress:
            progress(done, config.sets)
    write_json(folder / MARKER, {"settings": identity, "captions": captions, "seeds": seeds})
    (folder / PROGRESS).unlink()
    return folder


def _encoded(images: Images, encode: Encode, names: Sequence[str]) -> Arrays:
    """The arrays of a chunk [S, N, H, W, 3] of images, each [S, N, ...]."""
    encoded = encode(images.reshape(-1, *images.shape[2:]))
    arrays = {name: array.reshape(*images.shape[:2], *array.shape[1:]) for name, array in encoded.items()}
    arrays["images"] = images
    return {name: arrays[name] for name in names}


def _store(folder: Path, config: SetsConfig, start: int, arrays: Arrays) -> None:
    """Lay a chunk into the memory-mapped files, made at their full length by the first chunk, and flush them."""
    for name, chunk in arrays.items():
        path = folder / f"{name}.npy"
        if start == 0:
            dtype = np.uint8 if name == "images" else np.float16
            shape = (config.sets, *chunk.shape[1:])
            target = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        else:
            target = np.lib.format.open_memmap(path, mode="r+")
        target[start : start + len(chunk)] = chunk
        target.flush()


def _start(folder: Path, identity: dict[str, Any]) -> int:
    """How many sets an earlier, cut-off run has left in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PROGRESS).exists():
        return 0
    state = read_json(folder / PROGRESS)
    _check_identity(state["settings"], identity, folder)
    return int(state["done"])


def _identity(config: SetsConfig) -> dict[str, Any]:
    settings = asdict(config)
    settings["arrays"] = list(config.arrays)
    settings["encoders"] = dict(config.encoders)
    return settings


def _check_identity(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if differing:
        pairs = ", ".join(f"{key} is {found.get(key)!r}, not {wanted.get(key)!r}" for key in differing)
        raise UserError(f"'{folder}' holds other sets: {pairs}; give another --out or the same settings")


def _captions(config: SetsConfig) -> list[str]:
    from m2m.data.worlds import World

    captions = World.load(config.world).captions(config.split, config.sets, config.seed)
    if len(captions) < config.sets:
        raise UserError(
            f"world '{config.world}' has {len(captions)} captions in split '{config.split}', {config.sets} are wanted"
        )
    return [caption.text for caption in captions]


_world: Any = None


def _open_world(name: str) -> None:
    """Load the world once a process; workers keep it between sets."""
    global _world
    from m2m.data.worlds import World

    _world = World.load(name)


def _render_set(job: tuple[str, Sequence[int]], size: int) -> Images:
    caption, seeds = job
    return np.stack([_world.render(caption, seed, size=size) for seed in seeds])
