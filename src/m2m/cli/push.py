"""`m2m push`: a model and its card, as a repository of the Hugging Face Hub or as a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2m.model_folder import find_model

MB = 1_000_000


def push(
    model: Annotated[str, typer.Argument(metavar="DIR", help="The model: a folder, complete or derived, or a name.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Its repository on the hub: owner/name.")],
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="A folder that `m2m eval` wrote, or its result.json; may be repeated.")
    ] = None,
    evaluated_as: Annotated[
        str | None, typer.Option(help="The model's name in the evaluations.  [default: DIR]")
    ] = None,
    grid: Annotated[list[Path] | None, typer.Option(help="A PNG to show on the card; may be repeated.")] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Of the weights, as the hub writes it.  [default: apache-2.0, if they rest on shipped ones]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What it was trained on, in words.  [default: as its run's config.yaml says]")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="A data set of the hub; may be repeated.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository becomes a private one.")] = False,
    to: Annotated[Path | None, typer.Option(help="Write the folder here, and upload nothing.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make and check everything, list it, and keep and upload nothing.")
    ] = False,
) -> None:
    """Publish a model on the Hugging Face Hub, with a complete model card.

    The folder holds the whole pipeline (of a derived model too), the card with the numbers and grids of its
    evaluations, and a few lines of code by which plain diffusers loads it, if m2m-diffusion is installed. It is loaded
    before it is uploaded, in one commit. Log in first: hf auth login.

    Example:
      m2m push runs/cats/model jane/many-cats --evaluation out/table1 --licence apache-2.0 --data "4,000 photos of cats"
    """
    from m2m.publishing.stage import Publication, stage
    from m2m.publishing.upload import check_login, check_repo, upload

    check_repo(repo)
    if to is None and not dry_run:
        check_login()
    found = find_model(model)
    wanted = Publication(
        repo, licence, data, tuple(dataset or ()), tuple(evaluation or ()), tuple(grid or ()), evaluated_as
    )
    if to is not None and not dry_run:
        print(f"{_listed(to, stage(found, wanted, to))}\nwritten, nothing uploaded: {to}")
        return
    with tempfile.TemporaryDirectory(prefix="m2m-push-") as temporary:
        folder = Path(temporary) / "model"
        print(_listed(folder, stage(found, wanted, folder)), flush=True)
        if dry_run:
            print("a dry run: nothing kept, nothing uploaded")
            return
        print(f"uploaded: {upload(folder, repo, private)}")


def _listed(folder: Path, files: Sequence[Path]) -> str:
    """One line a file: its size and its name."""
    return "\n".join(f"{path.stat().st_size / MB:9.3f} MB  {path.relative_to(folder)}" for path in files)
