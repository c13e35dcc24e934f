"""Sets of real pictures: sub-folders of a folder, COCO images of one category, procedures, views of an object."""

from m2m.data.real_sets.coco import CocoOptions, CocoSets
from m2m.data.real_sets.folders import FolderOptions, FolderSets
from m2m.data.real_sets.objaverse import ObjaverseOptions, ObjaverseSets
from m2m.data.real_sets.steps import StepSets
from m2m.data.real_sets.vgsi import VgsiOptions, VgsiSets

__all__ = [
    "CocoOptions",
    "CocoSets",
    "FolderOptions",
    "FolderSets",
    "ObjaverseOptions",
    "ObjaverseSets",
    "StepSets",
    "VgsiOptions",
    "VgsiSets",
]
