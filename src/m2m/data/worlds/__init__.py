"""The tiny world: captions and a renderer that together are a text-to-image generator with known truth.

    from m2m.data.worlds import Caption, World

    world = World.load("mini")
    for seed in range(25):
        picture = world.render("three cats, flat style", seed)  # uint8 [64, 64, 3]

A caption fixes some attributes (subject or category, style, count, background) and leaves the others free. The seed
draws the free ones and always place, size, rotation, mirroring and light, so a set has a pattern and a freedom.
"""

from m2m.data.worlds.captions import Caption
from m2m.data.worlds.scene import Light, Placement, Scene
from m2m.data.worlds.splits import SPLITS
from m2m.data.worlds.world import ATTRIBUTES, World

__all__ = ["ATTRIBUTES", "SPLITS", "Caption", "Light", "Placement", "Scene", "World"]
