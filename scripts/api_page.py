"""docs/api.md, the reference of the public Python names: their signatures and docstrings, as they stand in the source.

Reads the source without importing it. A test compares; after a change of a docstring run this again.

Example:
    python scripts/api_page.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"

HEAD = """# Reference

The public names, from their docstrings (`python scripts/api_page.py` writes this page).
[Python](python.md) shows them at work. Axes: B sets, N images of a set, C channels, H and W pixels, h and w latents.
"""
# A class of its own in the source, which is met in the one that derives from it.
MET_AS = {"NamedPipeline": "M2MPipeline"}
# Heading -> where it leads: module and names in it, a method as Class.method.
SECTIONS = {
    "Make images": [
        ("m2m.loading", ["load_pipeline"]),
        ("m2m.pipeline", ["M2MPipeline"]),
        ("m2m.pretrained", ["NamedPipeline.from_pretrained"]),
        ("m2m.pipeline", ["M2MPipeline.__call__", "M2MPipeline.encode", "M2MPipeline.decode"]),
        ("m2m.pipeline", ["M2MPipeline.image_size"]),
        ("m2m.sampling_output", ["M2MPipelineOutput"]),
        ("m2m.types", ["UserError"]),
    ],
    "The model": [("m2m.model.unet", ["M2MModel"]), ("m2m.model.autoencoder", ["TinyAutoencoder"])],
    "Tasks": [
        ("m2m.tasks.cameras", ["parse_cameras", "relative_cameras"]),
        ("m2m.tasks.task", ["Task"]),
        ("m2m.model.conditions", ["ConditionConfig"]),
    ],
    "Image sets": [
        ("m2m.data.reading.sets", ["open_sets"]),
        ("m2m.data.reading.dataset", ["ReadConfig"]),
        ("m2m.data.reading.order", ["OrderConfig"]),
        ("m2m.data.reading.loading", ["batches"]),
    ],
}


def main() -> int:
    """Write the page, or with --check only compare. Returns the exit code."""
    fresh = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == fresh:
        return 0
    print("docs/api.md is stale; `python scripts/api_page.py` rewrites it", file=sys.stderr)
    return 1


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for title, groups in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [entry(module, name) for module, names in groups for name in names]
    return "\n".join(parts)


def entry(module: str, name: str) -> str:
    """One name: its signature as code, then its docstring."""
    node = definition(module, name)
    docstring = ast.get_docstring(node)
    if not docstring:
        raise SystemExit(f"{module}.{name} has no docstring, so the reference cannot tell of it")
    shown = ".".join(MET_AS.get(word, word) for word in name.split("."))
    public = shown.removesuffix(".__call__")
    title = f"{public}(...), a call" if public != shown else public
    return f"### {title}\n\n```text\n{signature(node, module, shown)}\n```\n\n{markdown(docstring)}\n"


def definition(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    node: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    for word in name.split("."):
        found = [one for one in ast.iter_child_nodes(node) if getattr(one, "name", None) == word]
        if not found:
            raise SystemExit(f"{module} has no {name}")
        node = found[0]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    return node


def signature(node: ast.ClassDef | ast.FunctionDef, module: str, name: str) -> str:
    """As it is written: of a class the fields of its body, or the arguments of its __init__."""
    if isinstance(node, ast.FunctionDef):
        if any(ast.unparse(one) == "property" for one in node.decorator_list):
            return f"{name} -> {ast.unparse(node.returns)}" if node.returns else name
        return call(name.removesuffix(".__call__") if "." in name else f"{module}.{name}", node)
    made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    if made:
        return call(f"{module}.{name}", made[0])
    fields = [f"    {ast.unparse(one)}" for one in node.body if isinstance(one, ast.AnnAssign)]
    return "\n".join([f"{module}.{name}", *fields])


def call(name: str, node: ast.FunctionDef) -> str:
    """A name and its arguments, one a line where they do not fit into one."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    shown = [written(one, value) for one, value in zip(plain, defaults, strict=True) if one.arg not in ("self", "cls")]
    shown += [f"*{arguments.vararg.arg}"] if arguments.vararg else ["*"] if arguments.kwonlyargs else []
    shown += [written(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    shown += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    line = f"{name}({', '.join(shown)}){returns}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(shown) + f",\n){returns}"


def written(argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
    return text if default is None else f"{text} = {ast.unparse(default)}"


def markdown(docstring: str) -> str:
    """A docstring as Markdown: its `Args:` become a list, its `>>>` a block, double backticks single ones."""
    text = re.sub(r"``([^`]*)``", r"`\1`", docstring)
    text = re.sub(r"(?m)^ *>>>.*(?:\n *\S.*)*", lambda session: f"```pycon\n{dedent(session[0])}\n```", text)
    lines = text.splitlines()
    out: list[str] = []
    for line in lines:
        if re.fullmatch(r"\w[\w ]*:", line):
            out += ["", f"**{line[:-1]}**", ""]
        elif found := re.match(r"    (\*{0,2}[\w, ]+): (.*)", line):
            out.append(f"- `{found[1]}`: {found[2]}")
        elif line.startswith("        "):
            out.append(f"  {line.strip()}")
        else:
            out.append(line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


if __name__ == "__main__":
    sys.exit(main())
