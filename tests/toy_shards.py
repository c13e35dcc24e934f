"""Small folders of encoded shards that fit the models of `tests/tiny.py`: latents and features, no pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.data.reading.stored_set import CONDITIONS, ENCODED, ENCODERS, FEATURES, LATENTS, META
from m2m.data.shards import ShardWriter, shard_name
from tests.data.reading.toy_shards import keys, toy_conditions, write_toy_manifest
from tests.tiny import CONTEXT_DIM, TOKENS

TOY_ENCODERS = {"latents": "toy autoencoder", "features": "toy-encoder"}  # what `m2m data encode` notes, in its form
Arrays = dict[str, NDArray[np.float16]]


def write_toy_shards(
    folder: Path,
    sets: int = 6,
    images: int = 3,
    per_shard: int = 4,
    seed: int = 0,
    features: bool = True,
    encoders: dict[str, Any] | None = None,
    conditions: bool = False,
) -> Path:
    """A folder of sets "set000", ... with latents [N, 4, 8, 8] and features [N, 5, 24] of N `images`, float16.

    The images of a set resemble each other: one random latent a set, a little noise for each image. seed: other sets of
    the same names. features: False for latents alone. encoders: what the folder says it was made with. conditions: META
    has three numbers an image, `toy_conditions`.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    arrays = {key: _toy_arrays(generator, images, features) for key in keys(sets)}
    shards = [keys(min(per_shard, sets - first), first) for first in range(0, sets, per_shard)]
    names = [_write_encoded(folder, n, {key: arrays[key] for key in own}, conditions) for n, own in enumerate(shards)]
    made_with = encoders or {**TOY_ENCODERS, "features": TOY_ENCODERS["features"] if features else None}
    write_toy_manifest(folder, names, sets=sets, sets_per_shard=per_shard, size=64, **{ENCODERS: made_with})
    return folder


def _toy_arrays(generator: np.random.Generator, images: int, features: bool) -> Arrays:
    latents = generator.normal(size=(1, 4, 8, 8)) + 0.1 * generator.normal(size=(images, 4, 8, 8))
    tokens = generator.normal(size=(images, TOKENS, CONTEXT_DIM))
    arrays = {LATENTS: latents, FEATURES: tokens} if features else {LATENTS: latents}
    return {suffix: array.astype(np.float16) for suffix, array in arrays.items()}


def _write_encoded(folder: Path, index: int, sets: dict[str, Arrays], conditions: bool) -> str:
    """One shard of encoded sets, as `m2m data encode` lays them out; a unit a set. Returns its name."""
    slice_ = (0, max(len(arrays[LATENTS]) for arrays in sets.values()))
    name = shard_name(index, slice_)
    with ShardWriter.open(folder, name, index, slice_, units=len(sets)) as writer:
        for key, arrays in sets.items():
            meta = {"key": key, "caption": f"caption of {key}", ENCODED: {"numbers": list(range(slice_[1]))}}
            meta |= {CONDITIONS: toy_conditions(key, slice_[1])} if conditions else {}
            entries = [(f"{key}.{suffix}", _npy(array)) for suffix, array in arrays.items()]
            writer.append([*entries, (f"{key}.{META}", json.dumps(meta).encode())])
        writer.finish()
    return name


def _npy(array: NDArray[np.float16]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
