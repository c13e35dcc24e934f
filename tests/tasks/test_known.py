"""Finding tasks: the paper's two, and a third of one's own in a file or a package."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.tasks.known import TASKS, find_task
from m2m.tasks.task import Task
from m2m.types import UserError

OWN = """
from m2m.model.conditions import ConditionConfig
from m2m.tasks.task import Task

class Brightness(Task):
    name = "brightness"
    condition = ConditionConfig("brightness", 1)

    def conditions(self, numbers, stored):
        return stored
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_task.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", list(TASKS))
def test_the_paper_s_tasks_are_found_by_name(name: str) -> None:
    """Bug: a name in the table whose class was moved, or calls itself otherwise."""
    task = find_task(name)
    assert isinstance(task, Task) and task.name == name


def test_a_task_in_a_file_is_found(own: Path) -> None:
    """Bug: a third task that would need a line in the package."""
    task = find_task(f"{own}:Brightness")
    assert (task.name, task.condition.dim, task.ordered) == ("brightness", 1, False)


def test_a_task_in_a_package_is_found() -> None:
    """Bug: a dotted name that is taken for a file."""
    assert find_task("m2m.tasks.visual_procedure:VisualProcedure").name == "visual_procedure"


def test_a_change_of_the_file_is_seen(own: Path) -> None:
    """Bug: a module that is kept under its name, so that another file of that name is never read."""
    find_task(f"{own}:Brightness")
    other = own.parent / "other" / own.name
    other.parent.mkdir()
    other.write_text(OWN.replace('"brightness", 1', '"brightness", 4'))
    assert find_task(f"{other}:Brightness").condition.dim == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("novel_veiw", "", "unknown: use one of novel_view, visual_procedure, or a class"),
        ("{folder}/none.py:Own", "", "none.py' does not exist"),
        ("no.such.package:Own", "", "'no.such.package' cannot be imported: ModuleNotFoundError"),
        ("{file}:Own", "x = 1", "has no class 'Own' that derives from m2m.tasks.task.Task"),
        ("{file}:Own", "class Own: pass", "has no class 'Own' that derives from"),
        ("{file}:Own", "x = (", "cannot be imported: SyntaxError"),
        ("{file}:Own", "raise RuntimeError('two\\nlines')", "cannot be imported: RuntimeError: two"),
        ("{file}:Brightness", OWN.replace("def conditions", "def condition_of"), "has no method conditions"),
        ("{file}:Brightness", OWN.replace('name = "', 'called = "'), "has no 'name', a text"),
        ("{file}:Brightness", OWN.replace('ConditionConfig("brightness", 1)', "1"), "has no 'condition', a Condition"),
        ("{file}:Brightness", OWN.replace('", 1)', '", 0)'), "dim is 0"),
        ("{file}", OWN, "unknown: use one of"),
    ],
)
def test_what_is_no_task_is_one_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    """Bug: a traceback through importlib for a misspelt name or a file with a mistake."""
    path = tmp_path / "task.py"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        find_task(name.format(folder=tmp_path, file=path))
    assert words in str(caught.value) and "\n" not in str(caught.value)
