"""The model card, README.md: metadata that the hub reads (licence, tags, numbers), and the rest for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m2m.evaluation.report.layout import Cell, Line, Sheet, plain
from m2m.evaluation.report.markdown import escaped, table
from m2m.evaluation.result import Result
from m2m.publishing import numbers

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline

PROJECT = "m2m-diffusion"
CUSTOM = 'custom_pipeline="pipeline", trust_remote_code=True'
PAPER = "https://arxiv.org/abs/2404.03109"
TAGS = ["m2m-diffusion", "many-to-many", "image-sets", "auto-regressive", "diffusers"]
# What a model is told of each image -> what it is for, and the command that runs it.
TASKS = {
    "camera": (
        "shows the object of one picture from other cameras",
        "m2m views mug.png --cameras orbit:8,elevation=20 --model {repo} --out out/mug",
    ),
    "position": (
        "makes the next steps of a visual procedure",
        "m2m continue step1.png step2.png -n 4 --model {repo} --out out/next",
    ),
}
GENERAL = (
    "makes further images that share the content and style of the given ones",
    "m2m generate a.png b.png c.png -n 4 --model {repo} --out out/first",
)


@dataclass(frozen=True)
class Facts:
    """What the loaded pipeline says of itself. side: of its images, in pixels; parameters: by component; condition: the
    model's `ConditionConfig` as plain values, or nothing."""

    variant: str
    side: int
    parameters: Mapping[str, int]
    settings: Mapping[str, Any]
    condition: Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """Everything that a card says. base: what it was fine-tuned from, or ""; base_on_hub: that is a repository of the
    hub; run: shown settings of the training run; results: what evaluations say of `evaluated_as`, the model's name in
    them; pictures: (file within the folder, title, note)."""

    repo: str
    licence: str
    data: str
    facts: Facts
    evaluated_as: str
    datasets: Sequence[str] = ()
    base: str = ""
    base_on_hub: bool = False
    run: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Result] = ()
    pictures: Sequence[tuple[str, str, str]] = ()
    with_notice: bool = False


def facts_of(pipe: M2MPipeline, settings: Mapping[str, Any]) -> Facts:
    """Read off a loaded pipeline; settings: those beside its components."""
    parts = {name: part for name, part in pipe.components.items() if hasattr(part, "parameters")}
    counts = {name: sum(own.numel() for own in part.parameters()) for name, part in parts.items()}
    config = pipe.model.config
    return Facts(config.variant, pipe.image_size, counts, settings, dict(config.get("condition") or {}))


def model_card(card: Card) -> str:
    """The text of README.md."""
    from huggingface_hub import ModelCard, ModelCardData

    name = card.repo.rpartition("/")[2]
    data = ModelCardData(
        license=card.licence,
        library_name="diffusers",
        pipeline_tag=numbers.TASK,
        tags=list(TAGS),
        datasets=list(card.datasets) or None,
        base_model=card.base if card.base_on_hub else None,
        model_name=name if card.results else None,
        eval_results=numbers.metrics(card.results, card.evaluated_as) or None,
    )
    blocks = [f"# {name}", _what(card), *_pictures(card.pictures[:1]), *_use(card), *_trained(card), *_numbers(card)]
    if card.pictures[1:]:
        blocks += ["## More pictures", *_pictures(card.pictures[1:])]
    blocks += [*_limits(card), *_licence(card)]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(blocks) + "\n"))


def _what(card: Card) -> str:
    facts = card.facts
    counts = ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())
    base = f" It was fine-tuned from `{card.base}`." if card.base else ""
    return (
        f"A many-to-many image model (M2M-{'DINO' if facts.variant == 'dino' else 'Self'}) of {PROJECT}, after "
        f"[Many-to-many Image Generation with Auto-regressive Diffusion Models]({PAPER}): a few images in, further "
        f"images out, no text. This one {_task(card)[0]}. Images are {facts.side} x {facts.side} pixels; parameters: "
        f"{counts}.{base}"
    )


def _task(card: Card) -> tuple[str, str]:
    condition = card.facts.condition
    if not condition:
        return GENERAL
    other = f"makes further images that are told by {condition['dim']} numbers each ({condition['name']})"
    return TASKS.get(condition["name"], (other, ""))


def _pictures(pictures: Sequence[tuple[str, str, str]]) -> list[str]:
    shown = (
        f"![{escaped(title)}](<{file}>)\n\n{escaped(title)}{': ' + escaped(note) if note else ''}"
        for file, title, note in pictures
    )
    return list(shown)


def _use(card: Card) -> list[str]:
    load = f'pipe = M2MPipeline.from_pretrained("{card.repo}")'
    plain_load = f'pipe = DiffusionPipeline.from_pretrained("{card.repo}", {CUSTOM})'
    command = _task(card)[1].format(repo=card.repo)
    return [
        "## Use it",
        f"    pip install {PROJECT}",
        *([f"On the command line:\n\n    {command}"] if command else []),
        "In Python:",
        _python("from m2m import M2MPipeline", load, _call(card)),
        "In plain diffusers:",
        _python("from diffusers import DiffusionPipeline", plain_load, _call(card)),
        f"`pipeline.py`, the only code in this repository, takes its class from the installed {PROJECT} and does "
        "nothing else; without that it stops with one line that says so.",
    ]


def _python(imported: str, *lines: str) -> str:
    return "\n".join(["```python", imported, "", *lines, "```"])


def _call(card: Card) -> str:
    condition = card.facts.condition
    if not condition or condition.get("default"):
        return 'images = pipe(["a.png", "b.png", "c.png"], num_images=4, seed=0).images'
    dim, name = condition["dim"], condition["name"]
    return (
        f"# numbers: [3, {dim}], the {name} of the given image, then of both new ones\n"
        'images = pipe(["a.png"], num_images=2, conditions=numbers, seed=0).images'
    )


def _trained(card: Card) -> list[str]:
    blocks = ["## What it was trained on", card.data]
    if card.run:
        lines = tuple(Line(name, (Cell(plain(value)),)) for name, value in card.run.items())
        blocks += ["The settings of the run:", table(Sheet("", ("setting", ""), lines))]
    return blocks


def _numbers(card: Card) -> list[str]:
    if not card.results:
        return ["## Numbers", "None: this model was published without an evaluation."]
    head = (
        "Measured with `m2m eval`. A floor asks for no skill: a model must be clearly better. No model can be expected "
        "to pass a ceiling. Numbers of different extractors cannot be compared."
    )
    return ["## Numbers", head, *(block for result in card.results for block in numbers.tables(result))]


def _limits(card: Card) -> list[str]:
    facts = card.facts
    lines = [
        f"Images are {facts.side} x {facts.side} pixels. Given ones of another shape are cropped to the middle square.",
        "It takes no text: what the images should share has to be seen in the given ones.",
        "It knows the kind of pictures that it was trained on, with their biases, and is poor at all others.",
        _of_rows(facts.settings),
        "New images can be near copies of given ones. There is no safety filter and no watermark.",
    ]
    if not card.results:
        lines.append("Nobody has measured how good it is.")
    return ["## Limits", "\n".join(f"- {line}" for line in lines)]


def _of_rows(settings: Mapping[str, Any]) -> str:
    """What becomes of many images in a row, through the model's own window."""
    size, policy = settings.get("default_window"), settings.get("default_window_policy")
    if size == 1 and policy == "anchor":
        return (
            "Each new image is made from the given ones alone; with `window='all'` it is made from all before it, and "
            "faults add up in long rows."
        )
    return (
        "Each new image is made from those before it, so faults add up in long rows; with `window=1` and "
        "`window_policy='anchor'` each is made from the given ones alone."
    )


def _licence(card: Card) -> list[str]:
    beside = " NOTICE says whose drawings went into the data, under which licence." if card.with_notice else ""
    return ["## Licence", f"Weights: {escaped(card.licence)}.{beside} The code, {PROJECT}: apache-2.0."]
