"""One plain line for every measure, and one for what reads the pictures."""

from __future__ import annotations

from m2m.evaluation.result import Better

ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "": ""}
DIRECTIONS: dict[Better, str] = {
    "lower": "lower is better",
    "higher": "higher is better",
    "": "neither high nor low is good in itself",
}
MEASURES = {
    "FD": "Fréchet distance between the images at a position and the first given images of all sets: how far one "
    "cloud of features is from the other, in mean and in spread. 0 for equal clouds; too large for few sets.",
    "FID": "Fréchet distance on Inception features, between the images at a position and the first given images of all "
    "sets: the paper's measure of quality. 0 for equal clouds; too large for few sets.",
    "KID": "Kernel distance x 1000 between the images at a position and the first given images of all sets. It asks "
    "what FD asks, but is not too large for few sets; about 0, even a little below, for images of the same kind.",
    "IS": "Inception Score: high where each image is surely of one class and all images together are of many. It knows "
    "neither the given images nor the caption.",
    "CMMD": "Distance x 1000 between the CLIP features of the images at a position and of the first given images of "
    "all sets. 0 for equal clouds; makes no assumption about their shape.",
    "Text-Image CLIP": "100 x cosine between an image and the caption of its set, which the model never saw.",
    "Image-Image CLIP": "100 x cosine between an image and the given images of its set, mean over the given ones. 100 "
    "is a copy, so more is not always better.",
    "DINO-I": "100 x cosine between an image and the given images of its set in DINOv2 features, mean over the given "
    "ones: the same thing, not only the same kind. 100 is a copy.",
    "Image-Image": "100 x cosine between an image and the given images of its set, mean over the given ones. 100 is a "
    "copy, so more is not always better.",
    "diversity": "100 x (1 - cosine), mean over all pairs of the images of a set up to this one. 0: all alike. Good is "
    "what real sets have: more is no longer a set, less repeats itself.",
    "style consistency": "Similarity of an image's style to that of the given images, x 100, whatever it shows.",
    "subject": "% of images that show the subject that the caption names.",
    "category": "% of images that show a subject of the category that the caption names.",
    "style": "% of images in the style that the caption names.",
    "count": "% of images that show as many subjects as the caption says.",
    "background": "% of images on the background that the caption names.",
    "freedom": "How much varies what the caption leaves free: entropy over the images of a set up to this one, % of "
    "that of real sets. 100 is as free as those, 0 repeats itself. One image alone has none.",
    "PSNR": "Peak signal-to-noise ratio against the true view, in dB: 3 dB more is half the squared error.",
    "SSIM": "Structural similarity to the true view, x 100: edges and textures in their place. 100 for equal pictures.",
    "perceptual distance": "Distance to the true view in the features of a network at five depths, each of length 1: "
    "LPIPS without its learned weights, so no published number compares. 0 for equal pictures.",
    "pose following": "% of generated views whose nearest true view, pixel by pixel among all views of the object, is "
    "the asked one. With 12 views chance is 8.3%.",
    "pair colour error": "Do the views show one object? How differently two views of neighbouring cameras are "
    "coloured, against how differently the true ones are, in levels of 255. A colour that is wrong in all views alike "
    "costs nothing; one that changes from view to view does, and one that does not change where it should.",
    "old parts kept": "% of what was drawn in the last given picture, and should stay, that is still there in its "
    "place: neither lost nor moved nor painted over.",
    "overlap with the true part": "Intersection over union, x 100, of what the picture changes against the last given "
    "one and of what the true next step changes.",
    "right next part": "% of pictures whose change overlaps the true one by half or more.",
    "near-copies": "% of images that are closer to a given image than the two closest real images of that set are to "
    "each other: copied, not made.",
}
EXTRACTORS = {
    "inception": "Inception v3, the network of FID and of the Inception Score: comparable with published numbers.",
    "clip": "CLIP, trained on pictures with their captions: sees what is shown, and reads text.",
    "dinov2": "DINOv2, trained on pictures alone: sees what is shown, down to the individual thing.",
    "efficientnet-lite0": "EfficientNet-Lite0, trained on ImageNet. It sees what is shown, not the style; its FD, KID "
    "and IS compare with no published number.",
    "colour": "Statistics of a picture's colours: its palette, not what it shows.",
    "gram": "Gram statistics of an early layer: strokes and textures, not what they show.",
    "truth probe": "A classifier of the tiny world. There the caption says what must be seen, so the answer is right "
    "or wrong; a measure is over the sets whose caption fixes it.",
    "pixels": "The pixels themselves, no network.",
}


def shown_name(name: str, extractor: str) -> str:
    """FD on Inception features is called FID everywhere."""
    return "FID" if name == "FD" and family(extractor) == "inception" else name


def explained(name: str) -> str:
    """One line for a measure; empty for one that is not known here."""
    return MEASURES.get(name, "")


def extractor_explained(extractor: str) -> str:
    """One line for an extractor, "clip" for "clip:ViT-B/32"; empty for one that is not known here."""
    return EXTRACTORS.get(family(extractor), "")


def family(extractor: str) -> str:
    """The name without what follows the colon."""
    return extractor.partition(":")[0]
