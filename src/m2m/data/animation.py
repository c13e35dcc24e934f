"""Pictures one after the other, without end: an animated GIF, which every browser and chat shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

# Browsers show frames that are shorter than this a tenth of a second long.
SHORTEST = 20
TICK = 10  # the format counts in hundredths of a second


def write_gif(frames: Sequence[Image.Image], path: str | Path, milliseconds: int, side: int | None = None) -> None:
    """Write the frames, each `milliseconds` long (rounded to 10, at least 20), as a loop.

    side: pixels that the longer side of a frame is enlarged to; never made smaller. Raises ValueError without frames.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame")
    duration = max(SHORTEST, round(milliseconds / TICK) * TICK)
    first, *others = [_in_256_colours(_enlarged(frame, side)) for frame in frames]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=duration, loop=0, disposal=1)


def _enlarged(frame: Image.Image, side: int | None) -> Image.Image:
    longer = max(frame.size)
    if side is None or side <= longer:
        return frame
    width, height = (round(length * side / longer) for length in frame.size)
    return frame.resize((width, height), Image.Resampling.LANCZOS)


def _in_256_colours(frame: Image.Image) -> Image.Image:
    """A palette a frame, and no dithering: its dots would dance on surfaces that stand still."""
    return frame.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
