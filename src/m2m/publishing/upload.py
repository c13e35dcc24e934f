"""Upload of a staged folder to the Hugging Face Hub, in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2m.types import UserError, first_line

LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def check_repo(repo: str) -> None:
    """Raise UserError for what is no `owner/name` of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if repo.count("/") != 1:
        raise UserError(f"repository '{repo}' must be owner/name, such as jane/many-cats")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"repository '{repo}' is no name for the hub: {first_line(error)}") from error


def check_login() -> None:
    """Raise UserError where no token is there. Asks nothing of the network."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError(f"you are not logged in to the hub: {LOGIN}")


def upload(folder: Path, repo: str, private: bool) -> str:
    """Make the repository if it is not there, and put the whole folder into it as one commit; its address.

    Of what the repository held before, files of the folder's own sub-folders that are no longer there are removed
    (grids, shards of weights); everything else stays.

    Raises UserError: no network, not logged in, no permission, refused by the hub. Then nothing was changed, but that
    the repository may be there, and empty.
    """
    from huggingface_hub import HfApi

    own = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hub = HfApi(library_name="m2m-diffusion")
    with _told(repo):
        address = hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload with m2m push",
            delete_patterns=[f"{name}/*" for name in own],
        )
    return str(address)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """What the hub, its client and the network raise, as a UserError."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError(f"you are not logged in to the hub: {LOGIN}") from error
    except HfHubHTTPError as error:
        raise UserError(_refusal(repo, error)) from error
    except ValueError as error:  # the hub checked the card's metadata before any file went there
        raise UserError(f"the hub refused the card of '{repo}': {first_line(error)}; nothing was uploaded") from error
    except Exception as error:  # offline mode, and what the client's HTTP library raises, whichever it is
        raise UserError(f"the hub cannot be reached for '{repo}': {first_line(error)}; nothing was uploaded") from error


def _refusal(repo: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"the hub does not know your token: {LOGIN}"
    if status in (403, 404):
        return f"you may not write to '{repo}': check its owner's name, and that your token may write there"
    return f"the hub refused '{repo}': {first_line(error)}; nothing was uploaded"
