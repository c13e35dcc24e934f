"""Publishing a model: a complete folder with a model card, which plain diffusers loads, and its upload."""
