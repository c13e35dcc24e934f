"""`m2m data captions`: caption files to a folder of filtered captions with ids and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.data.captions.sift import Progress, SiftConfig, sift_captions

REASONS = {
    "too_long": "more than {max_tokens} CLIP tokens",
    "empty": "nothing but blanks",
    "not_utf8": "not UTF-8",
    "nul": "NUL in the text: damaged, or UTF-16",
    "no_tab": "a line without its columns",
    "header": "names of columns, not a caption",
    "duplicate": "repetition of a caption",
}


def data_captions(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="FILE.tsv[.gz] (url, tab, caption), FILE.txt[.gz], FILE.parquet (column caption or text), or "
            "world:NAME:SPLIT:COUNT[:SEED] for captions of the tiny world.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the captions, written whole or not at all.")],
    test: Annotated[int, typer.Option(min=0, help="Captions of the test split.")] = 10_000,
    validation: Annotated[int, typer.Option(min=0, help="Captions of the validation split.")] = 0,
    max_tokens: Annotated[
        int, typer.Option(min=3, help="CLIP tokens that a caption may have, start and end included.")
    ] = 77,
) -> None:
    """Filter captions, give each an id that follows from its text, and split them by id: train, validation, test.

    Left out, and counted by reason, are captions over 77 CLIP tokens (section 4 of the paper), empty ones, text that is
    not UTF-8, and repetitions. The same captions give the same folder, whatever their order and files.

    Example:
      m2m data captions cc12m.tsv --out captions --test 10000 --validation 1000
      m2m data captions world:mini:train:2000 --out captions --test 100
    """
    config = SiftConfig(max_tokens=max_tokens, test=test, validation=validation)
    summary, made = _sift(inputs, out, config)
    _print_summary(summary)
    print(f"{summary['kept']:,} captions: {out}" + ("" if made else " (was there already, made with these settings)"))


def _sift(inputs: list[str], out: Path, config: SiftConfig) -> tuple[dict[str, Any], bool]:
    """The summary of the folder, and whether it was made now; with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    stages: dict[str, Any] = {}
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:

        def show(stage: str, fraction: float) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=1.0)
            bar.update(stages[stage], completed=fraction)

        progress: Progress = show
        store = sift_captions(inputs, out, config, progress)
    return store.summary, bool(stages)


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title, justify in (("captions", "left"), ("count", "right"), ("", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    table.add_row("read", f"{summary['read']:,}", _names(summary["sources"]))
    for reason, count in summary["rejected"].items():
        words = REASONS.get(reason, "").format(**summary["settings"])
        table.add_row(f"  - {reason}", f"{count:,}", words)
    table.add_row("kept", f"{summary['kept']:,}", "")
    for split, record in summary["splits"].items():
        table.add_row(f"  {split}", f"{record['count']:,}", _lengths(record["token_lengths"]))
    Console(soft_wrap=True).print(table)


def _names(sources: list[dict[str, Any]]) -> str:
    names = ", ".join(source["name"] for source in sources[:3])
    return names + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")


def _lengths(token_lengths: list[int]) -> str:
    """The middle and the range of a split's token lengths, e.g. "3 to 77 tokens, half of them up to 21"."""
    count = sum(token_lengths)
    if not count:
        return ""
    lengths = [length for length, captions in enumerate(token_lengths) if captions]
    below = 0
    for length in lengths:
        below += token_lengths[length]
        if 2 * below >= count:
            break
    return f"{lengths[0]} to {lengths[-1]} tokens, half of them up to {length}"
