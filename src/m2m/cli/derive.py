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
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The fine-tuned model: a folder, or a hub id.")],
    base: Annotated[str, typer.Option(help="The complete model that it was fine-tuned from, such as tiny-self.")],
    out: Annotated[Path, typer.Option(help="New folder for the derived model.")],
) -> None:
    """Write a fine-tuned model without what it shares with its base.

    A task model that was fine-tuned with frozen parts has these, the autoencoder and the vision encoder from its base.
    The new folder holds the other tensors, in float16, and names the base, which must be there to load it. It is loaded
    and compared before it gets its name.

    Example:
      m2m derive runs/visual-procedure/model --base tiny-self --out models/burgers
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out '{out}' is there already: name a new folder")
    fine_tuned, original = find_model(model), find_model(base)
    from m2m.derived import write_derived

    shares = write_derived(load_pipeline(fine_tuned, "cpu"), original, out)
    print(f"kept {shares.kept} tensors of the model, {shares.kept_bytes / MB:.1f} MB: {out}")
    print(f"shared with {base}: {shares.shared} tensors, {shares.shared_bytes / MB:.1f} MB, and every other part")
