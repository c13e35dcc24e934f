"""Sets of real pictures: the sub-folders of a folder, and COCO images that share an object category."""

from m2m.data.real_sets.coco import CocoOptions, CocoSets
from m2m.data.real_sets.folders import FolderOptions, FolderSets

__all__ = ["CocoOptions", "CocoSets", "FolderOptions", "FolderSets"]
