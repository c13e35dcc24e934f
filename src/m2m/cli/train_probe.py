"""`m2m train-probe`: the classifier that reads what a rendered picture shows, from nothing but a world's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m.cli.training_run import end_of_run, shown_progress

if TYPE_CHECKING:
    from m2m.cli.probe_task import ProbeConfig
    from m2m.evaluation.truth.labelled import Labelled
    from m2m.evaluation.truth.probe import TruthProbe
    from m2m.training.loop import TrainingResult

CONFUSIONS = ("subject", "style", "background", "count")  # attributes whose confusions are printed


def train_probe(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train the classifier that judges images; a run whose `out` holds a checkpoint continues there.

    Renders its pictures first, where `data` and `validation` do not hold them yet. Where a budget ends, the averaged
    weights are tested on the pictures of `validation`, and `export=DIR` writes them; a finished run only does that.

    Example:
      m2m train-probe --config configs/tiny/probe.yaml out=runs/probe export=runs/probe/export
    """
    from m2m.cli.probe_task import ProbeConfig
    from m2m.config import config_yaml, load_config

    settings = load_config(ProbeConfig, config, overrides or [])
    if dry_run:
        print(config_yaml(settings), end="")
        return
    end_of_run(_run(settings))


def _run(config: ProbeConfig) -> TrainingResult:
    import torch

    from m2m.cli.probe_task import ProbeTask, new_probe
    from m2m.config import config_dict, save_config
    from m2m.evaluation.truth.labelled import LabelledConfig, labelled_folder
    from m2m.training.loop import train
    from m2m.training.parallel import Processes
    from m2m.training.watching import Work

    seen = LabelledConfig(config.world, config.images, config.size, config.seed)
    held_out = LabelledConfig(config.world, config.validation_images, config.size, config.seed + 1)
    pictures = labelled_folder(config.data, seen, config.workers, _print_rendered)
    tested = labelled_folder(config.validation, held_out, config.workers, _print_rendered)
    with Processes(config) as processes, shown_progress("pictures") as report:
        torch.manual_seed(config.seed)
        task = ProbeTask(new_probe(config).to(processes.device), pictures, config)
        task.accumulation(processes.ranks)  # several processes are refused before anything is written
        save_config(config, Path(config.out) / "config.yaml")
        result = train(task, config, config_dict(config), processes, report, work=Work(sets=config.batch_images))
    if not result.signal:
        _finish(result, tested, config)
    return result


def _print_rendered(done: int, total: int) -> None:
    print(f"rendered {done} of {total} pictures", flush=True)


def _finish(result: TrainingResult, tested: Labelled, config: ProbeConfig) -> None:
    """Test the averaged weights, rounded to float16 as they will be loaded, and write them if that is wanted."""
    from m2m.checkpoint import atomic_folder, write_json

    averaged: Any
    with result.optimisation.averaged() as averaged:
        probe = type(averaged).from_config(averaged.config)
        probe.load_state_dict(averaged.state_dict())
    probe = probe.half().float().eval()
    report = measure(probe, tested)
    write_json(Path(config.out) / "report.json", report)
    print(report_text(report))
    if config.export:
        with atomic_folder(config.export) as folder:
            probe.half().save_pretrained(folder)
            for path in folder.glob("*.safetensors"):
                path.chmod(0o644)  # safetensors makes files that only their owner can read
        print(f"probe: {config.export}")


def measure(probe: TruthProbe, tested: Labelled) -> dict:
    """Accuracy by attribute, and the commonest confusions, on labelled pictures."""
    from m2m.evaluation.truth.probe_training import accuracies, confusions

    found = probe.classify(tested.pixels())
    values = probe.attributes
    pairs = {name: confusions(found[name], tested.labels[name], values[name]) for name in CONFUSIONS}
    return {"images": len(tested), "accuracy": accuracies(found, tested.labels), "confusions": pairs}


def report_text(report: dict) -> str:
    """The report in lines: accuracies, then for each attribute what was taken for what."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in report["accuracy"].items())
    lines = [f"right on {report['images']} held-out pictures: {shares}"]
    for name, pairs in report["confusions"].items():
        lines += [f"  {name}: {truth} taken for {found}, {count} times" for truth, found, count in pairs]
    return "\n".join(lines)
