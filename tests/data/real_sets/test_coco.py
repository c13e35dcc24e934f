"""Sets of COCO images that share a category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.data.real_sets import CocoOptions, CocoSets
from m2m.data.real_sets.coco import object_share, read_instances
from m2m.types import UserError
from tests.data.real_sets.samples import annotation, cats_and_dogs, instances, truncate, write_coco


def sets_of(annotations: Path, images: Path, **options: Any) -> CocoSets:
    return CocoSets(CocoOptions(annotations, images, **{"size": 16, "images_per_set": 3, **options}))


def test_sets_share_their_category_and_no_image_twice(tmp_path: Path) -> None:
    """Section 8.3: different images of one category. Image 1 shows two cats and must still come once."""
    sets = sets_of(*write_coco(tmp_path, 14, cats_and_dogs()))
    plans = sets.sets(0, len(sets))
    assert [plan.meta["category"] for plan in plans] == ["cat", "cat", "cat", "dog", "dog"]
    for plan in plans:
        ids = plan.meta["image_ids"]
        assert plan.images == len(set(ids)) == 3
        assert set(ids) <= (set(range(1, 12)) if plan.meta["category_id"] == 17 else set(range(8, 15)))
        assert plan.meta["files"] == [f"{number:012d}.jpg" for number in ids]
        assert plan.meta["caption"] == plan.meta["category"]
    cats = [number for plan in plans[:3] for number in plan.meta["image_ids"]]
    assert len(set(cats)) == 9
    assert sets.without == ["person", "toothbrush"]


def test_pixels_are_those_of_the_named_image(tmp_path: Path) -> None:
    """A list that is sorted in one place and not in the other shows other images than its ids say."""
    from m2m.data.pictures import read_picture, to_square

    annotations, images = write_coco(tmp_path, 14, cats_and_dogs())
    sets = sets_of(annotations, images)
    plan = sets.sets(1, 2)[0]
    for number, picture in enumerate(sets.make([(plan, number) for number in range(3)])):
        path = images / f"{plan.meta['image_ids'][number]:012d}.jpg"
        assert np.array_equal(picture, np.asarray(to_square(read_picture(path), 16)))


def test_the_seed_draws_and_repeats(tmp_path: Path) -> None:
    """Images in the order of the file would put the pictures of one photographer together."""
    paths = write_coco(tmp_path, 14, cats_and_dogs())
    drawn = [[plan.meta["image_ids"] for plan in sets_of(*paths, seed=seed).sets(0, 9)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert sets_of(*paths, seed=0).settings() != sets_of(*paths, seed=1).settings()
    assert drawn[0] != sorted(drawn[0])


def test_sets_per_category(tmp_path: Path) -> None:
    """A limit takes the first sets and changes none of them."""
    paths = write_coco(tmp_path, 14, cats_and_dogs())
    every, one = sets_of(*paths).sets(0, 9), sets_of(*paths, sets_per_category=1).sets(0, 9)
    assert one == [every[0], every[3]]


def test_small_objects_and_crowds_do_not_count(tmp_path: Path) -> None:
    """A person of four pixels, or a crowd behind the scene, is not what a picture shows."""
    crowd = {"segmentation": {"counts": [0, 1920], "size": [40, 48]}, "iscrowd": 1}
    crowds = [annotation(300 + image, image, 90, (0.0, 0.0, 48.0, 40.0), **crowd) for image in range(1, 15)]
    paths = write_coco(tmp_path, 14, [*cats_and_dogs(), *crowds])
    assert {plan.meta["category"] for plan in sets_of(*paths, min_area=0.05).sets(0, 99)} == {"cat", "dog"}
    assert {plan.meta["category"] for plan in sets_of(*paths, min_area=0.0).sets(0, 99)} == {"person", "cat", "dog"}


@pytest.mark.parametrize(
    ("box", "area", "share"),
    [
        ((20, 0, 40, 40), None, 1.0),
        ((20, 0, 40, 40), 800.0, 0.5),
        ((0, 0, 20, 40), None, 0.0),
        ((10, 0, 20, 20), None, 200 / 1600),
        ((10, 0, 20, 20), 100.0, 50 / 1600),
        ((5, 5, 0, 0), 0.0, 0.0),
    ],
)
def test_an_object_counts_as_far_as_the_stored_square_shows_it(
    box: tuple[float, ...], area: float | None, share: float
) -> None:
    """A dog at the edge of a wide picture is cut off with the edge; the set would share a category that none shows."""
    assert object_share(box, area, width=80, height=40) == pytest.approx(share)


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    """A download that was cut off; left out, the others still fill the sets."""
    annotations, images = write_coco(tmp_path, 14, cats_and_dogs())
    (images / "000000000003.jpg").unlink()
    truncate(images / "000000000005.jpg")
    with pytest.raises(UserError, match=r"2 pictures cannot be used.*0000(03|05)\.jpg.*0000(03|05)\.jpg"):
        sets_of(annotations, images)
    sets = sets_of(annotations, images, skip_broken=True)
    assert sorted(file.name for file in sets.refused) == ["000000000003.jpg", "000000000005.jpg"]
    used = {number for plan in sets.sets(0, 99) for number in plan.meta["image_ids"]}
    assert len([plan for plan in sets.sets(0, 99) if plan.meta["category"] == "cat"]) == 3
    assert not used & {3, 5}


def test_what_lies_outside_of_the_folder_is_never_opened(tmp_path: Path) -> None:
    """An annotations file from anywhere could read any file of this machine into a data set."""
    for name in ("../secret.jpg", "/etc/passwd", "a/../../b.jpg"):
        content = instances(3, cats_and_dogs()[:1])
        content["images"][2]["file_name"] = name
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="outside of the folder"):
            read_instances(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "no list 'categories'"),
        (lambda content: content["annotations"][0].pop("bbox"), "bad or missing 'bbox'"),
        (lambda content: content["annotations"][0].update(image_id=99), "bad or missing 99"),
        (lambda content: content["annotations"][0].update(category_id=99), "category 99"),
        (lambda content: content["images"][0].pop("file_name"), "bad or missing 'file_name'"),
    ],
)
def test_files_that_are_no_instances(tmp_path: Path, change: Any, message: str) -> None:
    """captions_val2017.json lies beside instances_val2017.json, and tools write files that lack half of it."""
    content = instances(14, cats_and_dogs())
    change(content)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_instances(path)


def test_no_json_no_folder_no_sets(tmp_path: Path) -> None:
    """Each is told apart, because each is mended differently."""
    annotations, images = write_coco(tmp_path, 14, cats_and_dogs())
    with pytest.raises(UserError, match="does not exist"):
        read_instances(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_instances(images / "000000000001.jpg")
    with pytest.raises(UserError, match="is no folder"):
        sets_of(annotations, tmp_path / "nowhere")
    with pytest.raises(UserError, match="has 12 usable images"):
        sets_of(annotations, images, images_per_set=12)
    with pytest.raises(UserError, match="it is a share"):
        sets_of(annotations, images, min_area=5)
