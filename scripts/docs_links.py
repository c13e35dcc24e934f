"""A hook of mkdocs: what a page links to outside of docs/ is on GitHub and in a clone, but not on the site.

`[a third task](../recipes/new_task.md)` becomes "a third task (`recipes/new_task.md`)".
"""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[`?([^\]]+?)`?\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """The page with a name in the place of each such link; mkdocs calls this."""
    return OUTSIDE.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if path.endswith(text) else f"{text} (`{path}`)"
