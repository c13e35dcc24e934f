"""`m2m data stats`: what folders of shards hold, as a table, as JSON and as histograms."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter
from m2m.data.reports.statistics import Statistics, collect, spread, summary
from m2m.data.reports.units import human_bytes
from m2m.types import UserError


def data_stats(
    folders: Annotated[list[Path], typer.Argument(help="One or several folders of shards.")],
    plot: Annotated[Path | None, typer.Option(help="Write histograms to this PNG file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Shards that are read at a time.")] = 2,
) -> None:
    """Count sets, images and bytes of folders, caption lengths, images of a set, sizes of pictures.

    Only headers are read, so this is quick and proves nothing about the bytes; `m2m data verify` does that. A shard
    that cannot be read is named and left out, and the exit code is 1.

    Example:
      m2m data stats data/mis --plot mis.png --json mis.json

    Example:
      m2m data stats data/mis data/coco --plot both.png
    """
    labels = _labels(folders)
    statistics = {label: _collected(label, folder, workers) for label, folder in labels.items()}
    print(_table(statistics))
    if json:
        _write_json(json, statistics)
    if plot:
        _write_plot(plot, statistics)
    unreadable = [line for found in statistics.values() for line in found.unreadable]
    for line in unreadable:
        print(f"m2m: left out: {line}", file=sys.stderr)
    if unreadable:
        raise typer.Exit(1)


def _collected(label: str, folder: Path, workers: int) -> Statistics:
    from m2m.data.captions.tokens import ClipTokenCounter

    with counter(f"{label}: shards") as progress:
        return collect(folder, ClipTokenCounter().counts, workers, progress)


def _labels(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by their names; by their whole paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    labels = {
        str(folder) if names.count(name) > 1 else name: folder for name, folder in zip(names, folders, strict=True)
    }
    if len(labels) < len(folders):
        raise UserError("a folder is named twice; name each once")
    return labels


def _table(statistics: Mapping[str, Statistics]) -> str:
    """A column for each folder."""
    columns = [["", *statistics]]
    rows = [_column(found) for found in statistics.values()]
    columns += [[name, *(row[name] for row in rows)] for name in rows[0]]
    widths = [max(len(line[place]) for line in columns) for place in range(len(columns[0]))]
    lines = []
    for name, *values in columns:
        cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _column(found: Statistics) -> dict[str, str]:
    """The figures of a folder in words."""
    return {
        "shards": f"{found.shards:,}",
        "sets": f"{found.sets:,}",
        "images": f"{found.images:,}",
        "bytes": human_bytes(found.bytes),
        "images of a set": _range(spread(found.images_per_set), "{:.3g}"),
        "tokens of a caption": _range(spread(found.tokens), "{:.3g}"),
        "bytes of a picture": _range(spread(found.picture_bytes)),
        "bytes of a shard": _range(spread(found.shard_bytes)),
        "pixels": _most(found.picture_sizes),
        "formats": _most(found.formats),
    }


def _range(figures: Mapping[str, float], form: str = "") -> str:
    """Mean (least to most)."""
    if not figures:
        return "none"
    mean, least, most = (
        form.format(figures[name]) if form else human_bytes(figures[name]) for name in ("mean", "least", "most")
    )
    return mean if least == most else f"{mean} ({least} to {most})"


def _most(counts: Mapping[str, int], shown: int = 3) -> str:
    """The most frequent of the counted names."""
    ordered = sorted(counts, key=lambda name: -counts[name])
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return (", ".join(ordered[:shown]) + more) or "none"


def _write_json(path: Path, statistics: Mapping[str, Statistics]) -> None:
    from m2m.checkpoint import write_json

    try:
        write_json(path, {label: summary(found) for label, found in statistics.items()})
    except OSError as error:
        raise UserError(f"--json '{path}' cannot be written: {error.strerror or error}") from error
    print(f"figures: {path}")


def _write_plot(path: Path, statistics: Mapping[str, Statistics]) -> None:
    from m2m.checkpoint import atomic_write
    from m2m.data.reports.plots import plot

    figure = plot(statistics)
    try:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png")
    except OSError as error:
        raise UserError(f"--plot '{path}' cannot be written: {error.strerror or error}") from error
    print(f"histograms: {path}")
