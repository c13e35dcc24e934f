"""The messages of the package, read from its source: the words of every UserError, {} where a value stands."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "m2m"
LIST = Path(__file__).parent / "messages.txt"


def raised(path: Path) -> list[tuple[str, str]]:
    """(class, words) of each UserError, or error derived from it, that a file makes; in the order of the file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("UserError", "ShardError")]
    ordered = sorted(named, key=lambda call: (call.lineno, call.col_offset))
    return [(call.func.id, words(call.args[0])) for call in ordered if isinstance(call.func, ast.Name)]


def words(node: ast.expr) -> str:
    """The text that an expression makes, {} where it cannot be read off; of two that are possible the first."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(words(part) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return words(left) + words(right)
        case ast.IfExp(body=body):
            return words(body)
    return "{}"


def messages() -> list[tuple[str, str, str]]:
    """(file, class, words) of all of them."""
    files = sorted(SOURCE.rglob("*.py"))
    return [(path.relative_to(SOURCE).as_posix(), *one) for path in files for one in raised(path)]


def listed() -> str:
    """As tests/messages.txt holds them: a file's name, and its messages below it."""
    out = ["# What the package says to its users, by file; written by `python -m tests.messages`."]
    for name, _, text in messages():
        if name not in out:
            out.append(name)
        out.append(f"    {text}")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    LIST.write_text(listed(), encoding="utf-8")
