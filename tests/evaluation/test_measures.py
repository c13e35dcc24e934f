"""Which measures an extractor has, and that each is of the right images."""

import torch

from m2m.evaluation.measures import SetFeatures, measure_all
from m2m.evaluation.score import Score

SETS, GIVEN, IMAGES, DIM = 12, 3, 4, 6


def features(extractor: str, **others: torch.Tensor) -> SetFeatures:
    """Each set around a direction of its own; generated like given."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(SETS, 1, DIM, generator=generator)
    given = centres + 0.1 * torch.randn(SETS, GIVEN, DIM, generator=generator)
    generated = centres + 0.1 * torch.randn(SETS, IMAGES, DIM, generator=generator)
    return SetFeatures(extractor, generated, given, **others)


def by_name(found: list[Score]) -> dict[str, Score]:
    return {own.name: own for own in found}


def test_names_follow_the_extractor() -> None:
    """A distance on ImageNet features that is called FID would be read beside the paper's."""
    logits = torch.randn(SETS, IMAGES, 5)
    text = torch.randn(SETS, DIM)
    names = {
        "inception": {"FID", "KID", "IS", "Image-Image", "diversity"},
        "efficientnet-lite0": {"FD", "KID", "IS", "Image-Image", "diversity"},
        "dinov2:giant": {"FD", "KID", "DINO-I", "diversity"},
        "clip:ViT-B/32": {"CMMD", "Image-Image CLIP", "Text-Image CLIP", "diversity"},
        "gram": {"style consistency"},
    }
    for extractor, wanted in names.items():
        others = {"text": text} if "Text-Image CLIP" in wanted else {"logits": logits} if "IS" in wanted else {}
        assert set(by_name(measure_all(features(extractor, **others)))) == wanted


def test_distances_are_to_the_first_given_images_of_all_sets() -> None:
    """The paper's reference is the first given images; all given ones would be another, larger sample."""
    own = features("efficientnet-lite0")
    same = SetFeatures("efficientnet-lite0", own.given[:, :1].expand(-1, IMAGES, -1), own.given)
    distance = by_name(measure_all(same))["FD"]
    assert all(value is not None and abs(value) < 1e-6 for value in distance.values)
    far = SetFeatures("efficientnet-lite0", own.generated + 5, own.given)
    assert all(value is not None and value > 100 for value in by_name(measure_all(far))["FD"].values)


def test_similarity_and_text_compare_an_image_with_its_own_set() -> None:
    """Compared across sets, or along the wrong axis, the own set would be no closer than another one."""
    own = features("clip:ViT-B/32")
    right = SetFeatures(own.extractor, own.generated, own.given, text=own.given[:, 0])
    wrong = SetFeatures(own.extractor, own.generated.roll(1, 0), own.given, text=own.given[:, 0])
    for name in ("Image-Image CLIP", "Text-Image CLIP"):
        found, shuffled = by_name(measure_all(right))[name].per_set, by_name(measure_all(wrong))[name].per_set
        assert found is not None and shuffled is not None and found.shape == (SETS, IMAGES)
        assert float(found.mean()) > 90 > 50 > float(shuffled.mean())
