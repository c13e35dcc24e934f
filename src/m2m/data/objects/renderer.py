"""Pictures of coloured meshes by pybullet's TinyRenderer: a software renderer that needs no display and no GL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2m.data.cameras import FIELD_OF_VIEW, Extrinsics
from m2m.data.objects.colours import Part
from m2m.data.objects.meshes import facing
from m2m.types import UserError

NEAR, FAR = 0.1, 10.0
FINER = 2  # rendered so many times finer, then averaged: soft edges
LIGHT = (1.0, 0.6, 2.5)  # towards the light, in the world: mostly from above
STREAMS = (1, 2)  # stdout and stderr as the C library knows them
AMBIENT, DIFFUSE = 0.65, 0.35

Views = NDArray[np.uint8]


def import_quietly(name: str) -> ModuleType:
    """pybullet or pybullet_data, without the line that it prints. Raises UserError where it is not installed."""
    try:
        with _quiet():
            return import_module(name)
    except ImportError as error:
        raise UserError("drawing objects needs pybullet: pip install 'm2m-diffusion[nvs]'") from error


class Renderer:
    """One renderer, to be used in `with`: objects come and go.

    Raises UserError where pybullet is missing.
    """

    def __init__(self) -> None:
        self._bullet = import_quietly("pybullet")
        self._client = self._bullet.connect(self._bullet.DIRECT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bullet.disconnect(physicsClientId=self._client)

    def render(self, parts: Sequence[Part], cameras: Extrinsics, size: int) -> Views:
        """RGBA pictures uint8 [N, size, size, 4] of the object from world-to-camera matrices [N, 3, 4].

        Straight alpha: the share of a pixel that the object covers; the colour is that of this share alone.
        """
        self._bullet.resetSimulation(physicsClientId=self._client)
        for part in parts:
            self._add(part)
        return np.stack([_averaged(*self._picture(camera, size * FINER)) for camera in cameras])

    def _add(self, part: Part) -> None:
        """Each triangle has its own three corners, so that its flat normal is not shared with its neighbours."""
        shape = self._bullet.createVisualShape(
            self._bullet.GEOM_MESH,
            vertices=part.triangles.reshape(-1, 3).tolist(),
            indices=list(range(3 * len(part.triangles))),
            normals=np.repeat(facing(part.triangles), 3, axis=0).tolist(),
            rgbaColor=(*part.colour, 1),
            physicsClientId=self._client,
        )
        self._bullet.createMultiBody(baseVisualShapeIndex=shape, physicsClientId=self._client)

    def _picture(self, camera: NDArray[np.float32], size: int) -> tuple[Views, NDArray[np.bool_]]:
        """Colours uint8 [size, size, 3] and where the object is, bool [size, size]."""
        view = np.vstack([camera, [0, 0, 0, 1]]).T.ravel().tolist()  # OpenGL stores columns
        _, _, colours, _, bodies = self._bullet.getCameraImage(
            size,
            size,
            view,
            self._projection(size),
            lightDirection=LIGHT,
            lightAmbientCoeff=AMBIENT,
            lightDiffuseCoeff=DIFFUSE,
            lightSpecularCoeff=0,
            shadow=0,
            renderer=self._bullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        return np.reshape(colours, (size, size, 4))[..., :3], np.reshape(bodies, (size, size)) >= 0

    def _projection(self, size: int) -> list[float]:
        """OpenGL's, moved by half a pixel: TinyRenderer looks through the corners of pixels, not their middles."""
        matrix = list(self._bullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, 1, NEAR, FAR))
        matrix[8] = matrix[9] = 1 / size
        return matrix


def _averaged(colours: Views, covered: NDArray[np.bool_]) -> Views:
    """Blocks of FINER x FINER pixels as one; the background lends no colour to the edge."""
    side = len(covered) // FINER
    alpha = covered.reshape(side, FINER, side, FINER).mean((1, 3))
    summed = (colours * covered[..., None]).reshape(side, FINER, side, FINER, 3).mean((1, 3))
    colour = summed / np.maximum(alpha, 1 / FINER**2)[..., None]
    return np.concatenate([colour, 255 * alpha[..., None]], axis=-1).round().astype(np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """What C code writes to stdout and stderr does not reach the terminal."""
    sys.stdout.flush()
    with open(os.devnull, "wb") as nothing:
        kept = [os.dup(stream) for stream in STREAMS]
        try:
            for stream in STREAMS:
                os.dup2(nothing.fileno(), stream)
            yield
        finally:
            for stream, original in zip(STREAMS, kept, strict=True):
                os.dup2(original, stream)
                os.close(original)
