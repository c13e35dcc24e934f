"""Who does the work of an evaluation: which share of it, who is told how far it is, and when it is to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from m2m.data.factory.folder import locked
from m2m.types import UserError

Progress = Callable[[int, int], None]


class Stopped(Exception):
    """A signal came: what is done is kept, and the same call goes on there."""


def _nothing() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Work:
    """share: (rank, ranks). progress: label of a stage -> what is told (sets done, sets in all), or None. stop: asked
    between two batches. barrier: waits for the other processes.
    """

    share: tuple[int, int] = (0, 1)
    progress: Callable[[str], Progress | None] = lambda label: None
    stop: Callable[[], bool] = lambda: False
    barrier: Callable[[], None] = _nothing

    def check(self) -> None:
        """Raise Stopped where the work is to stop."""
        if self.stop():
            raise Stopped


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The folder, made if missing, for one evaluation alone; when its process dies, however it dies, it is free.

    Raises UserError where another evaluation is at work in it, and where it cannot be written.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise UserError(f"another evaluation is at work in '{folder}'; wait, or name another --out") from error
        except OSError as error:
            raise UserError(f"'{folder}' cannot be written: {error.strerror}; name another --out") from error
        yield
