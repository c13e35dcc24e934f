"""One shard after the other: images are made in the calling thread, encoding and writing run beside it.

    make(job)   the caller: asks the source for one unit of images after the other, shard after shard without a pause
    encoders    a few threads: picture to file content (Pillow lets other threads run while it encodes)
    writer      one thread: each unit to its shard, in order, flushed before the next; then the shard is finished

At most `IN_FLIGHT` units are made and not yet written; then `make` waits. A unit is a fixed slice of the job's row of
(set, image) pairs, so a shard that was cut off continues behind a unit and ends with the same bytes.
"""

from __future__ import annotations

import io
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from m2m.data.shards import ShardBusy, ShardRecord, ShardWriter, image_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2m.data.factory.jobs import ShardJob, Slice
    from m2m.data.factory.settings import BuildSettings
    from m2m.data.factory.sources import SetPlan, SetSource
    from m2m.data.generators.protocol import Picture

    Request = tuple[SetPlan, int]  # image number of a set

IN_FLIGHT = 4
MOST_ENCODERS = 4
WEBP_METHOD = 4  # of 0, fast, to 6, small


class DiskError(OSError):
    """The disk refused a shard's bytes. No fault of the shard: no other one would fare better."""


@dataclass(frozen=True)
class Outcome:
    """How the work on a shard ended: finished (`record`), failed (`error`), or left for a later run (neither)."""

    job: ShardJob
    record: ShardRecord | None = None
    error: Exception | None = None


@dataclass
class _Shard:
    """A shard at work. Only the writing thread touches `writer` once the first unit is handed on."""

    job: ShardJob
    writer: ShardWriter
    units: list[Sequence[Request]]
    error: Exception | None = None


class Assembly:
    """Makes shards of a source. Use as a context manager; leaving it waits until what is made is written.

    stop: asked between units. Once it is true, what is made is committed and the shard left for a later run.
    Attribute images: how many it has committed, rejected ones included.
    """

    def __init__(self, source: SetSource, settings: BuildSettings, stop: Callable[[], bool] | None = None) -> None:
        self.images = 0
        self._source = source
        self._settings = settings
        self._stop = stop or (lambda: False)
        self._slots = BoundedSemaphore(IN_FLIGHT)
        self._encoders = ThreadPoolExecutor(settings.encoders or _cores(), "encode")
        self._writing = ThreadPoolExecutor(1, "write")
        self._outcomes: deque[Outcome] = deque()

    def make(self, job: ShardJob) -> None:
        """Make the images of a shard that are not committed yet. How it ends is told by a later `outcomes` or `drain`.

        Returns when the last image is made, while the last units are still on their way to the disk.
        Raises ShardBusy where another process is at work on the shard.
        """
        try:
            shard = self._open(job)
        except ShardBusy:
            raise
        except Exception as error:
            self._outcomes.append(Outcome(job, error=error))
            return
        failure: Exception | None = None
        try:
            failure = self._make_units(shard)
        finally:  # also where a second Ctrl-C strikes: what is made is written, then the shard is let go
            self._writing.submit(self._end, shard, failure)

    def outcomes(self) -> list[Outcome]:
        """How shards ended since this was last asked."""
        return [self._outcomes.popleft() for _ in range(len(self._outcomes))]

    def drain(self) -> list[Outcome]:
        """Wait until all that was made is written, then as `outcomes`."""
        self._writing.submit(lambda: None).result()
        return self.outcomes()

    def __enter__(self) -> Assembly:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writing.shutdown()
        self._encoders.shutdown()

    def _open(self, job: ShardJob) -> _Shard:
        units = units_of(self._source.sets(job.start, job.stop), job.images, self._source.batch)
        with _disk():
            writer = ShardWriter.open(self._settings.out, job.name, job.index, job.images, len(units))
        return _Shard(job, writer, units)

    def _make_units(self, shard: _Shard) -> Exception | None:
        """In the caller's thread: the units that are not committed, until one of them cannot be written.

        Returns what the source raised, if it did.
        """
        for unit in shard.units[shard.writer.committed :]:
            if shard.error or self._stop():
                break
            try:
                pictures = self._pictures(unit)
            except Exception as error:
                return error
            self._slots.acquire()
            contents = [self._encoders.submit(self._encode, picture) for picture in pictures]
            self._writing.submit(self._write, shard, unit, contents)
        return None

    def _pictures(self, unit: Sequence[Request]) -> list[Picture | None]:
        pictures = self._source.make(unit)
        if len(pictures) != len(unit):
            raise ValueError(f"the source made {len(pictures)} images where {len(unit)} were asked for")
        return pictures

    def _encode(self, picture: Picture | None) -> bytes | None:
        return None if picture is None else encode_picture(picture, self._settings.format, self._settings.quality)

    def _write(self, shard: _Shard, unit: Sequence[Request], contents: Sequence[Future[bytes | None]]) -> None:
        """In the writing thread: commit a unit, unless one before it could not be."""
        try:
            if shard.error is None:
                encoded = [content.result() for content in contents]
                entries = _entries(unit, encoded, shard.job.images, self._settings.format)
                with _disk():
                    shard.writer.append(entries)
                self.images += len(unit)
        except Exception as error:
            shard.error = error
        finally:
            self._slots.release()

    def _end(self, shard: _Shard, failure: Exception | None) -> None:
        """In the writing thread: finish the shard if all of it is there, else leave it to be continued."""
        record, error = None, shard.error or failure
        try:
            if error is None and shard.writer.committed == len(shard.units):
                with _disk():
                    record = shard.writer.finish()
        except Exception as refused:
            error = refused
        finally:
            with suppress(OSError):  # what could not be flushed is not in the journal either
                shard.writer.close()
        self._outcomes.append(Outcome(shard.job, record, error))


def encode_picture(picture: Picture, image_format: str, quality: int) -> bytes:
    """The content of a picture file (webp, png or jpg) of uint8 [H, W, 3]; the same bytes from the same picture.

    quality: 1 to 100, of webp and jpg. Raises ValueError for any other array or format.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    image, content = Image.fromarray(picture), io.BytesIO()
    if image_format == "webp":
        image.save(content, "WEBP", quality=quality, method=WEBP_METHOD)
    elif image_format == "jpg":
        image.save(content, "JPEG", quality=quality)
    elif image_format == "png":
        image.save(content, "PNG")
    else:
        raise ValueError(f"pictures are stored as webp, png or jpg, not as '{image_format}'")
    return content.getvalue()


def units_of(plans: Sequence[SetPlan], images: Slice, batch: int) -> list[Sequence[Request]]:
    """The images a .. b - 1 of the sets, those that a set has, in slices of `batch`."""
    first, last = images
    requests = [(plan, number) for plan in plans for number in range(first, min(last, plan.images))]
    return [requests[start : start + batch] for start in range(0, len(requests), batch)]


def _entries(
    unit: Sequence[Request], contents: Sequence[bytes | None], images: Slice, image_format: str
) -> list[tuple[str, bytes]]:
    """Name and content of a unit's entries. KEY.json follows the last image of its set; rejected images are absent."""
    entries = []
    for (plan, number), content in zip(unit, contents, strict=True):
        if content is not None:
            entries.append((f"{plan.key}.{image_suffix(number, image_format)}", content))
        last = min(images[1], plan.images)
        if number == last - 1:
            description = {"key": plan.key, "images": [images[0], last], **plan.meta}
            text = json.dumps(description, ensure_ascii=False, allow_nan=False)
            entries.append((f"{plan.key}.json", text.encode()))
    return entries


@contextmanager
def _disk() -> Iterator[None]:
    """Tell what the disk refuses from what a source's own files do."""
    try:
        yield
    except OSError as error:
        raise DiskError(error.errno, error.strerror or str(error)) from error


def _cores() -> int:
    return min(MOST_ENCODERS, len(os.sched_getaffinity(0)))
