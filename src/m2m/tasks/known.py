"""Finding a task by its name: the two of the paper, or a class of one's own in a file or a package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from m2m.model.conditions import ConditionConfig
from m2m.tasks.task import Task
from m2m.types import UserError

TASKS = {
    "novel_view": "m2m.tasks.novel_view:NovelView",
    "visual_procedure": "m2m.tasks.visual_procedure:VisualProcedure",
}


def find_task(name: str) -> Task:
    """The task of that name: one of `TASKS`, or "FILE.py:Class" or "package.module:Class".

    A file of one's own is run as Python runs it. Raises UserError where there is no such task, or where it is none.
    """
    place, colon, class_name = TASKS.get(name, name).rpartition(":")
    if not (place and colon):
        known = ", ".join(TASKS)
        raise UserError(
            f"task '{name}' is unknown: use one of {known}, or a class: FILE.py:Class, package.module:Class"
        )
    found = getattr(_module(place, name), class_name, None)
    if not (inspect.isclass(found) and issubclass(found, Task)):
        raise UserError(f"task '{name}': '{place}' has no class '{class_name}' that derives from m2m.tasks.task.Task")
    return _made(found, name)


def _module(place: str, name: str) -> ModuleType:
    """The module in a file, or of a package."""
    in_file = place.endswith(".py")
    if in_file and not Path(place).is_file():
        raise UserError(f"task '{name}': the file '{place}' does not exist")
    try:
        return _module_of_file(Path(place)) if in_file else importlib.import_module(place)
    except Exception as error:  # whatever the code of others raises
        raise UserError(f"task '{name}': '{place}' cannot be imported: {_line(error)}") from error


def _module_of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the name ends with .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _made(kind: type[Task], name: str) -> Task:
    if inspect.isabstract(kind):
        raise UserError(f"task '{name}': {kind.__name__} has no method conditions(numbers, stored); write one")
    task = kind()
    if not isinstance(getattr(task, "name", None), str):
        raise UserError(f"task '{name}': {kind.__name__} has no 'name', a text")
    if not isinstance(getattr(task, "condition", None), ConditionConfig):
        raise UserError(f"task '{name}': {kind.__name__} has no 'condition', a ConditionConfig; give it one")
    return task


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
