"""`m2m derive`: a fine-tuned model as what it does not share with its base, to be shipped beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.types import UserError

MB = 1_000_000


def derive(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model: a folder, a hub id, or a shipped name.")],
    base: Annotated[str, typer.Option(help="The complete model that it shares parts with, such as tiny-self.")],
    out: Annotated[Path, typer.Option(help="New folder for the derived model.")],
) -> None:
    """Write a model without what it shares with its base.

    A task model that was fine-tuned with frozen parts has these, the autoencoder and the vision encoder from its base;
    another model of the same autoencoder shares that alone. The new folder holds the other tensors and components, in
    float16, and names the base, which must be there to load it. It is loaded and compared before it gets its name.

    Example:
      m2m derive runs/visual-procedure/model --base tiny-self --out models/burgers
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out '{out}' is there already: name a new folder")
    whole, original = find_model(model), find_model(base)
    from m2m.derived import write_derived

    shares = write_derived(load_pipeline(whole, "cpu"), original, out)
    kept, shared = ("".join(f", {name}" for name in names) for names in (shares.kept_parts, shares.shared_parts))
    print(f"kept {shares.kept} tensors of the model, {shares.kept_bytes / MB:.1f} MB{kept}: {out}")
    print(f"shared with {base}: {shares.shared} tensors, {shares.shared_bytes / MB:.1f} MB{shared}")
