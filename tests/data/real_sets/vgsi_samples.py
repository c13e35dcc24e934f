"""A VGSI file with everything that its README shows of an article, and the pictures of its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.real_sets.samples import save_photograph


def article(number: int, steps: tuple[int, ...] = (3, 2)) -> dict[str, Any]:
    """Article 1000 + number with a method for each of `steps`, which says how many steps it has."""
    name = str(1000 + number)
    return {
        "file_id": name,
        "goal": f"How to Make Dish {number}",
        "goal_description": "A dish for every day.",
        "category_hierarchy": ["Food and Entertaining", "Recipes"],
        "methods": [
            {
                "name": f"Method {method}",
                "steps": [
                    {
                        "headline": f"Do thing {step}.",
                        "description": "Take your time.",
                        "img": f"https://www.wikihow.com/images/{name}-{method}-{step}.jpg",
                        "img_license": "Creative Commons",
                        "step_id": f"{name}_{method}_{step}",
                    }
                    for step in range(count)
                ],
            }
            for method, count in enumerate(steps)
        ],
    }


def write_vgsi(root: Path, articles: list[dict[str, Any]]) -> tuple[Path, Path]:
    """(file, folder of pictures); every step of every method gets its picture, the articles' in folders by turns."""
    for number, entry in enumerate(articles):
        steps = [step["step_id"] for method in entry["methods"] for step in method["steps"]]
        for place, step in enumerate(steps):
            save_photograph(root / "wiki_images" / str(number % 2) / f"{step}.png", seed=100 * number + place)
    path = root / "WikihowText_data.json"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in articles))
    return path, root / "wiki_images"
