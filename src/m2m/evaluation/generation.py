"""Images that a pipeline makes for the sets of an evaluation, as PNG files in a folder: stopped, killed, gone on with.

    request.json          what is asked for: settings, the model's weights, the data; another request is refused
    000012/000.png, ...   the images of set 12, all of them or none

The noise of an image follows from (seed, key of its set, its number), whatever else is sampled. Its last bits also
depend on how many numbers a machine computes at once. So sets are sampled in groups of `batch` neighbours, and a group
that was interrupted is sampled again as a whole: then stops, kills and the number of processes change no byte. Another
batch, number of threads or machine changes roundings, which sampling can enlarge to a few of 255 levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from m2m.checkpoint import atomic_folder, read_json, write_json
from m2m.evaluation.sets import EvaluationSet, EvaluationSets
from m2m.evaluation.truth.continuations import Progress
from m2m.pipeline import M2MPipeline
from m2m.sampling_request import asked_window
from m2m.types import UserError

REQUEST = "request.json"


@dataclass(frozen=True)
class GenerateConfig:
    """What is made of every set. guidance: None takes the pipeline's own. batch: sets that are sampled together.

    window: None shows all images; window_policy, context_noise: as in `M2MPipeline.__call__`. given: how many of the
    given images are shown, the first ones; None: all. unconditional: every image is made from nothing, as the first of
    a set of its own.
    condition_guidance: of a task's condition, as `guidance`; a model that has none is told none, and does not mind it.
    """

    images: int = 10
    steps: int = 50
    guidance: float | None = None
    window: int | None = None
    window_policy: str = "sliding"
    context_noise: int = 0
    seed: int = 0
    batch: int = 20
    given: int | None = None
    unconditional: bool = False
    condition_guidance: float | None = None

    def __post_init__(self) -> None:
        """Raise UserError for numbers of which nothing comes. The pipeline checks the others."""
        if min(self.images, self.batch) < 1 or (self.given is not None and self.given < 1):
            raise UserError(f"images is {self.images}, batch {self.batch}, given {self.given}: use 1 or more of each")


def generate(
    pipe: M2MPipeline,
    sets: EvaluationSets,
    folder: str | Path,
    config: GenerateConfig,
    model_identity: str,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Make what is missing of this process's share. Whether all of the share is there now; else it was stopped.

    model_identity: a digest of the weights. share: (rank, ranks); rank r makes the groups r, r + ranks, ... progress:
    called with (sets of the share that are there, sets of the share), first before any work. stop: asked before each
    group; at most one group's work is lost, in a kill too.

    Raises UserError where the folder holds images of another request (it names the differences), for more given images
    than the sets have, and for a rank that does not exist.
    """
    folder = Path(folder)
    if config.given is not None and config.given > sets.given:
        raise UserError(f"given is {config.given}, the sets have {sets.given} given images")
    _check_condition(pipe, sets)
    request = _request(pipe, sets, config, model_identity)
    _check_claim(folder, request)
    groups = _groups(len(sets), config.batch, share)
    missing = {group: [index for index in group if not _is_there(folder, index, config.images)] for group in groups}
    total, left = (sum(map(len, own)) for own in (groups, missing.values()))
    report = progress or (lambda done, total: None)
    report(total - left, total)
    for group in filter(missing.get, groups):
        if stop and stop():
            return False
        made = _sample(pipe, [sets[index] for index in group], config, _conditions(pipe, sets, group, config))
        _claim(folder, request)  # not before: what the pipeline refuses claims no folder
        for index in missing[group]:
            _write(set_folder(folder, index), made[index - group.start])
        left -= len(missing[group])
        report(total - left, total)
    return True


def set_folder(folder: Path, index: int) -> Path:
    """Where the images of set number `index` lie."""
    return folder / f"{index:06d}"


def _groups(sets: int, batch: int, share: tuple[int, int]) -> list[range]:
    """The groups of neighbours that this process makes: which sets share one does not depend on who makes it."""
    rank, ranks = share
    if not 0 <= rank < ranks:
        raise UserError(f"rank {rank} of {ranks} does not exist; ranks count from 0")
    return [range(start, min(start + batch, sets)) for start in range(0, sets, batch)][rank::ranks]


def _check_condition(pipe: M2MPipeline, sets: EvaluationSets) -> None:
    """A model of another task would take these numbers for its own, or fail in the middle."""
    condition = pipe.model.condition
    if condition is not None and sets.task is not None and condition.name != sets.task.task.condition.name:
        told = f"these sets tell it the {sets.task.task.condition.name}: ask for the protocol of its own task"
        raise UserError(f"the model was fine-tuned to be told the {condition.name} of each image, and {told}")


def _conditions(pipe: M2MPipeline, sets: EvaluationSets, group: range, config: GenerateConfig) -> list[Tensor] | None:
    """A task's conditions of all images of each set; None for sets of no task, and for a model that takes none."""
    if pipe.model.condition is None or sets.task is None:
        return None
    shown = sets.given if config.given is None else config.given
    return [sets.task.conditions(sets[index], shown, config.images) for index in group]


def _sample(
    pipe: M2MPipeline, sets: list[EvaluationSet], config: GenerateConfig, conditions: list[Tensor] | None
) -> list[list[Image.Image]]:
    """The images of each set."""
    if not config.unconditional:
        given = [[Image.fromarray(image.numpy()) for image in own.given[: config.given]] for own in sets]
        return _call(pipe, given, [own.key for own in sets], config.images, config, conditions)
    ids = [f"alone/{own.key}/{image}" for own in sets for image in range(config.images)]
    alone: list[list[Image.Image]] = []
    for start in range(0, len(ids), config.batch):  # no more at once than with given images
        part = ids[start : start + config.batch]
        alone += _call(pipe, [[] for _ in part], part, 1, config)
    images = [own[0] for own in alone]
    return [images[start : start + config.images] for start in range(0, len(images), config.images)]


def _call(
    pipe: M2MPipeline,
    given: list[list[Image.Image]],
    ids: list[str],
    images: int,
    config: GenerateConfig,
    conditions: list[Tensor] | None = None,
) -> list[list[Image.Image]]:
    # Any: with return_dict left alone it is always the output object, never the tuple.
    result: Any = pipe(
        given,
        set_ids=ids,
        num_images=images,
        num_inference_steps=config.steps,
        guidance_scale=_guidance(pipe, config),
        window=asked_window(config.window),
        window_policy=config.window_policy,
        context_noise=config.context_noise,
        seed=config.seed,
        conditions=conditions,
        condition_guidance_scale=None if conditions is None else config.condition_guidance,
    )
    return list(result.images)


def _guidance(pipe: M2MPipeline, config: GenerateConfig) -> float:
    if config.unconditional:  # both branches of guidance are the same: one will do
        return 1.0
    return float(pipe.config.default_guidance_scale if config.guidance is None else config.guidance)


def _request(pipe: M2MPipeline, sets: EvaluationSets, config: GenerateConfig, model_identity: str) -> dict[str, Any]:
    """All that the images follow from, with the pipeline's own choices written out. The batch is none of it."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("batch", "condition_guidance")}
    return {
        **sets.identity,
        **settings,
        "given": 0 if config.unconditional else config.given or sets.given,
        "guidance": _guidance(pipe, config),
        "guidance_interval": list(pipe.config.default_guidance_interval),
        "scheduler": type(pipe.scheduler).__name__,
        "dtype": str(pipe.model.dtype),
        "model": model_identity,
        **({} if pipe.model.condition is None else {"condition_guidance": _condition_guidance(pipe, config)}),
    }


def _condition_guidance(pipe: M2MPipeline, config: GenerateConfig) -> float:
    asked = config.condition_guidance
    return float(pipe.config.default_condition_guidance_scale if asked is None else asked)


def _claim(folder: Path, request: dict[str, Any]) -> None:
    """Note what the folder is for, if no one has; of several processes each writes the same."""
    _check_claim(folder, request)
    if not (folder / REQUEST).exists():
        write_json(folder / REQUEST, request)


def _check_claim(folder: Path, request: dict[str, Any]) -> None:
    """Raise UserError where the folder is for other images."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file; name a folder for the images")
    if not (folder / REQUEST).exists():
        return
    found = read_json(folder / REQUEST)
    found = found if isinstance(found, dict) else {}
    different = [name for name in {**request, **found} if found.get(name) != request.get(name)]
    if different:
        words = ", ".join(f"{name} is {found.get(name)!r}, not {request.get(name)!r}" for name in different)
        raise UserError(f"'{folder}' holds images of another request: {words}; name another folder")


def _is_there(folder: Path, index: int, images: int) -> bool:
    place = set_folder(folder, index)
    return all((place / _file(image)).is_file() for image in range(images))


def _file(image: int) -> str:
    return f"{image:03d}.png"


def _write(place: Path, images: list[Image.Image]) -> None:
    with atomic_folder(place) as staging:
        for number, image in enumerate(images):
            image.save(staging / _file(number))
