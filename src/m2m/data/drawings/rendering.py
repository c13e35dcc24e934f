"""SVG texts as pictures (resvg: the same pixels on every machine)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.types import UserError

# Sand: light, and no colour of the drawings; on white or light grey a white flag or a glass of milk could not be seen.
BACKGROUND = "#e6d9b3"


def render(stacks: Sequence[str], size: int) -> NDArray[np.uint8]:
    """Pictures [len(stacks), size, size, 3]. Raises UserError without the extra `steps`."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise UserError("drawings need resvg-py: pip install 'm2m-diffusion[steps]'") from error
    draw = partial(svg_to_bytes, background=BACKGROUND, skip_system_fonts=True, width=size, height=size)
    files = [io.BytesIO(bytes(draw(svg_string=stack))) for stack in stacks]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
