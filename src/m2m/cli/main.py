"""The command `m2m`: a table of commands, and how each way to end turns into a message and an exit code.

A command's module, and torch with it, is imported only when that command runs (or shows its help), so `m2m --help`
answers at once. Exit codes: 0 done, 2 a mistake of the user (one line on stderr), 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from m2m import __version__
from m2m.types import UserError

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
# What every wrong call is an instance of; typer itself names only those below it.
USAGE_ERROR: Any = typer.BadParameter.__base__
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a full quota, a limit on the size of files


class Command(NamedTuple):
    """`name` as it is typed (two words: a command of a group), where its function is, and its line in `m2m --help`."""

    name: str
    target: str
    summary: str


COMMANDS = (
    Command("generate", "m2m.cli.generate:generate", "Make further images that go with the given ones."),
    Command("views", "m2m.cli.views:views", "Show an object from other cameras."),
    Command("continue", "m2m.cli.continue_steps:continue_steps", "Make the next steps of a visual procedure."),
    Command("demo", "m2m.cli.demo:demo", "Serve the web page: drop pictures, get more of them."),
    Command("eval", "m2m.cli.evaluate:evaluate", "Score a model by the paper's protocols."),
    Command("init", "m2m.cli.init:init", "Turn a Stable Diffusion folder into a model of ours."),
    Command("train", "m2m.cli.train:train", "Train a many-to-many model on image sets."),
    Command("derive", "m2m.cli.derive:derive", "Keep of a fine-tuned model only what its base lacks."),
    Command("push", "m2m.cli.push:push", "Publish a model on the Hugging Face Hub, with its card."),
    Command("train-autoencoder", "m2m.cli.train_autoencoder:train_autoencoder", "Train the tiny autoencoder."),
    Command("train-probe", "m2m.cli.train_probe:train_probe", "Train the classifier that judges images."),
    Command("data captions", "m2m.cli.data.captions:data_captions", "Filter captions, and split them, for image sets."),
    Command("data build", "m2m.cli.data.build:data_build", "Make image sets from captions, as verified shards."),
    Command("data encode", "m2m.cli.data.encode:data_encode", "Turn shards of pictures into shards of latents."),
    Command("data verify", "m2m.cli.data.verify:data_verify", "Check shards against their manifest, and repair them."),
    Command("data stats", "m2m.cli.data.stats:data_stats", "Count what shards hold: sets, images, tokens, bytes."),
    Command("data preview", "m2m.cli.data.preview:data_preview", "Draw sets on contact sheets, captions below them."),
    Command("data plan", "m2m.cli.data.plan:data_plan", "Say what a data set costs before it is made."),
    Command("data folder", "m2m.cli.data.folder:data_folder", "Make sub-folders of pictures image sets."),
    Command("data coco", "m2m.cli.data.coco:data_coco", "Make sets of COCO images that share a category."),
    Command(
        "data objaverse", "m2m.cli.data.objaverse:data_objaverse", "Make sets of views of 3D objects, with cameras."
    ),
    Command("data objects", "m2m.cli.data.objects:data_objects", "Render the miniature of such views: 1,000 objects."),
    Command("data steps", "m2m.cli.data.steps:data_steps", "Make folders of ordered pictures visual procedures."),
    Command("data vgsi", "m2m.cli.data.vgsi:data_vgsi", "Make procedures of the wikiHow articles of VGSI."),
    Command(
        "data drawings", "m2m.cli.data.drawings:data_drawings", "Draw the miniature of procedures: emoji, part by part."
    ),
    Command("bench sampling", "m2m.cli.bench_sampling:bench_sampling", "What an image costs, beside text to image."),
)
SUMMARY = "A few images in, as many further images that share their content and style out."
GROUPS = {"data": "Make the image sets that training reads.", "bench": "Measure what the models cost."}

# Plain help: with rich markup, "[key=value ...]" in a help text would be taken for a style and vanish.
_STYLE: dict[str, Any] = {
    "add_completion": False,
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: the process's own) and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Torch's threads spin while they wait for each other. Where other work runs on the same cores, that makes sampling
    # five to fifty times slower; sleeping costs next to nothing. Read when torch is loaded; the user's own value wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _exit_code(build_app(given)(given, prog_name="m2m", standalone_mode=False))
    except USAGE_ERROR as error:
        return _refuse_call(error)
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return _refuse(f"'{error.filename or 'a file'}' cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return _exit_code(end.code)
    finally:
        signal.signal(signal.SIGTERM, former)


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The typer application for these arguments: the command that they name is loaded, the others are table rows."""
    app = typer.Typer(help=SUMMARY, context_settings=_HELP, callback=_root, **_STYLE)
    # The root and the groups have no options with values: the first words that are no options name the command.
    named = [argument for argument in arguments if not argument.startswith("-")]
    groups = {name: typer.Typer(help=text, context_settings=_HELP, **_STYLE) for name, text in GROUPS.items()}
    for name, group in groups.items():
        app.add_typer(group, name=name)
    for command in COMMANDS:
        words = command.name.split()
        parent = groups[words[0]] if len(words) > 1 else app
        _add(parent, command, words[-1], loaded=named[: len(words)] == words)
    return app


def _add(parent: typer.Typer, command: Command, word: str, loaded: bool) -> None:
    if not loaded:
        parent.command(word, help=command.summary)(_not_loaded)
        return
    function = _load(command.target)
    text, example = split_example(inspect.getdoc(function) or command.summary)
    parent.command(word, help=text, epilog=example, short_help=command.summary, context_settings=_HELP)(function)


def split_example(docstring: str) -> tuple[str, str | None]:
    """A command's docstring -> its text, and its example (from the line "Example:" on) marked to keep its lines."""
    lines = docstring.splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip().lower() in ("example:", "examples:")]
    if not starts:
        return docstring, None
    text, example = lines[: starts[0]], lines[starts[0] :]
    # "\b" on a line of its own tells the help formatter to leave the lines up to the next blank one alone.
    paragraphs = "\n".join(example).strip().split("\n\n")
    return "\n".join(text).strip(), "\n\n".join(f"\b\n{paragraph}" for paragraph in paragraphs)


def _load(target: str) -> Callable[..., Any]:
    module, function = target.split(":")
    loaded: Callable[..., Any] = getattr(import_module(module), function)
    return loaded


def _not_loaded() -> NoReturn:
    """What the table rows of commands that these arguments do not name are tied to; typer never gets to call it."""
    raise AssertionError("a command ran that the command line did not name")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"m2m {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command's name; each acts in a callback of its own."""


def _refuse(reason: str) -> int:
    """Say in one line what the user can mend; gives the exit code.

    Of the processes of `accelerate launch` or `torchrun`, which mostly meet the same mistake, the main one alone says
    it. What another has to say, for it may be alone with it, goes into the launcher's own report.
    """
    line = f"m2m: {' '.join(reason.splitlines())}"
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if report and os.environ.get("RANK", "0") != "0":
        # As torch.distributed.elastic.multiprocessing.errors reads it; the call stack is what it shows.
        details = {"py_callstack": line, "timestamp": str(int(time.time()))}
        Path(report).write_text(json.dumps({"message": {"message": line, "extraInfo": details}}))
    else:
        print(line, file=sys.stderr)
    return 2


def _refuse_call(error: Any) -> int:
    """A call that does not fit its command, in one line; a call of nothing (`m2m`, `m2m data`) gets the help."""
    message = error.format_message().strip()
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return error.exit_code
    path = error.ctx.command_path if error.ctx else "m2m"
    return _refuse(f"{message.rstrip('.')} (see `{path} --help`)")


def _terminate(number: int, frame: object) -> NoReturn:
    # SystemExit, not the default end of the process: what is half written is removed on the way out.
    raise SystemExit(TERMINATED)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1
