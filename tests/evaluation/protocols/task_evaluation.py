"""A whole evaluation of a task at the smallest size: random pipelines that know the task's condition, and one that does
not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from m2m.evaluation.candidates import Candidate, Model, candidates_of
from m2m.evaluation.features.cache import FeatureCache
from m2m.evaluation.features.extractor import find_extractor
from m2m.evaluation.generation import GenerateConfig
from m2m.evaluation.protocols.known import find_protocol
from m2m.evaluation.protocols.task_protocol import TaskProtocol
from m2m.evaluation.result import Result
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.work import Work
from m2m.evaluation.workshop import Workshop
from m2m.pipeline import M2MPipeline
from m2m.tasks.known import find_task
from tests.evaluation.protocols.evaluation import ORIGIN, pipeline
from tests.tiny import tiny_model, tiny_pipeline


@cache
def task_pipeline(task: str) -> M2MPipeline:
    """As if fine-tuned: what is added for the condition is not zero."""
    model = tiny_model()
    model.add_condition(find_task(task).condition, seed=0)
    torch.manual_seed(1)
    for parameter in model.added_parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    return tiny_pipeline(model=model.eval())


def task_candidates(task: str, *others: Candidate) -> list[Candidate]:
    """ "tuned", which knows the condition, and "base", which does not."""
    models = [Model("tuned", "digest", lambda: task_pipeline(task)), Model("base", "another", pipeline)]
    return [*candidates_of(models, [None], []), *others]


def evaluated_task(name: str, sets: EvaluationSets, folder: Path, images: int, *others: Candidate) -> Result:
    """The result of a task's protocol, its pictures in `folder`."""
    protocol = find_protocol(name)
    assert isinstance(protocol, TaskProtocol)
    config = GenerateConfig(images=images, steps=1, batch=len(sets), guidance=2.0)
    workshop = Workshop(folder, sets, task_candidates(protocol.task, *others), config, Work())
    caches = [FeatureCache(folder / "features", find_extractor("gram"))] if protocol.extractors else []
    scorer = protocol.scorer(workshop, caches, None, "cpu")
    sources = protocol.sources(workshop)
    scorer.extract([own for row in sources.values() for own in row], Work())
    return protocol.result(workshop, sources, scorer, folder, ORIGIN)
