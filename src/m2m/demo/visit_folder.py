"""The one folder that the demo writes to, and in it a folder for each visit: gone when the visit ends.

Gradio serves files from its cache folder alone, and copies there what lies elsewhere. So the demo's folder is made
Gradio's cache folder: pictures of a visit lie in it once, are served from it, and go with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What Gradio reads, when the page is built, to know its cache folder.
GRADIO_FOLDER = "GRADIO_TEMP_DIR"


@contextmanager
def demo_folder() -> Iterator[Path]:
    """A new folder of random name that only this user may read; the page must be built and served within.

    Removed at the end with all that is in it.
    """
    former = os.environ.get(GRADIO_FOLDER)
    folder = Path(tempfile.mkdtemp(prefix="m2m-demo-")).resolve()
    os.environ[GRADIO_FOLDER] = str(folder)
    try:
        yield folder
    finally:
        if former is None:
            del os.environ[GRADIO_FOLDER]
        else:
            os.environ[GRADIO_FOLDER] = former
        shutil.rmtree(folder, ignore_errors=True)


class VisitFolder:
    """The files of one visit, under a name that nobody can guess: who knows a file's address may see it."""

    def __init__(self, demo: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="visit-", dir=demo))

    def close(self) -> None:
        """Remove all files of the visit. What comes later of it, from a step still running, fails to be written."""
        shutil.rmtree(self.path, ignore_errors=True)
