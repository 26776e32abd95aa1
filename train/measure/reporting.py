"""The lines and tables that stage two shows. Words only, no torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from msdn.train.measure.tables import show_value
from msdn.train.models.registry import find_model

if TYPE_CHECKING:
    from msdn.train.groups.groups import AttributeGroups

WATCHED = "test figures were shown while training (--watch-test)"
_EPOCH_FIGURES = ("U", "S", "H", "acc")
_VAL_FIGURES = ("H", "AUSUC", "acc")
_NO_LOSS = ("phase", "epoch", "epochs", "seconds", *_EPOCH_FIGURES)
_MEANINGS = {
    "U": "unseen test images, all classes compete",
    "S": "seen test images, all classes compete",
    "H": "harmonic mean of U and S",
    "H_no_margin": "H without any margin",
    "H_published": "H with the published margin of 1",
    "H_val_margin": "H with the margin chosen on validation classes",
    "AUSUC": "area under S over U as the margin changes; needs no margin",
    "acc": "unseen test images, unseen classes compete",
}


def epoch_line(record: Mapping[str, Any]) -> str:
    """One epoch in fixed order: loss, its terms, validation figures, test figures if watched, seconds."""
    epochs = record["epochs"]
    width = len(str(epochs))
    phase = f"{record['phase']} " if "phase" in record else ""
    parts = [f"{phase}epoch {record['epoch']:>{width}}/{epochs}"]
    parts += [f"{name} {record[name]:.4g}" for name in record if name not in _NO_LOSS and name[:4] != "val_"]
    parts += [
        f"val {name} {percent(record[f'val_{name}'])}" for name in _VAL_FIGURES if f"val_{name}" in record
    ]
    parts += [f"test {name} {percent(record[name])}" for name in _EPOCH_FIGURES if name in record]
    return "  ".join([*parts, f"{record['seconds']:.1f} s"])


def provenance_notes(weights: str, masked: int) -> list[str]:
    """What every output has to say of features that are not what they seem."""
    notes = []
    if weights == "random":
        notes.append("backbone: random weights – figures say nothing about published results")
    if weights == "imported":
        notes.append("backbone: not known to msdn – the features were imported")
    if masked:
        notes.append(f"masked images: {masked} (could not be used, left out)")
    return notes


def groups_line(groups: "AttributeGroups") -> str:
    """Where the groups of attributes come from, and how many attributes each has."""
    return _describe_groups(groups.as_json())


def _describe_groups(groups: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{one['name']} {len(one['attributes'])}" for one in groups["groups"])
    return f"attribute groups: {groups['source']} ({shown})"


def training_notes(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What to know of single trainings of a series, each with its name: which failed, and which showed test figures."""
    failed = {name: result for name, result in results if result.get("failed")}
    lines = [f"failed: {name}: {result['failed']} ({result['run']})" for name, result in failed.items()]
    if failed:
        lines.append("what failed is not trained again; to try it once more, delete its folder")
    watched = [name for name, result in results if result.get("watch_test")]
    return lines + [f"{WATCHED}: {'; '.join(watched)}"] * bool(watched)


def figures_table(result: Mapping[str, Any]) -> Table:
    """All figures that were measured, with the chance level."""
    table = Table(title=f"{result['model']} on {result['dataset']}", title_justify="left")
    table.add_column("figure")
    table.add_column("%", justify="right")
    table.add_column("chance %", justify="right")
    table.add_column("per-class mean of")
    for name, meaning in _MEANINGS.items():
        other_h = name.startswith("H_") and (
            result.get(name) is None or result["margin"] == result["margins"][name]
        )
        if name in result and not other_h:
            chance = percent(result["chance"][name]) if name in result["chance"] else ""
            table.add_row(name.replace("_", " "), percent(result[name]), chance, meaning)
    return table


def figures_notes(result: Mapping[str, Any]) -> list[str]:
    """What the figures belong to, and how the weights were chosen."""
    lines = _published_notes(result) if "checkpoint" in result else [f"run: {result['run']}"]
    lines += [f"margin: {result['margin']:.4g}", f"selection: {result['selection']}"]
    if result.get("watch_test"):
        lines.append(WATCHED)
    return lines + provenance_notes(result["weights"], result["masked_images"])


def _published_notes(result: Mapping[str, Any]) -> list[str]:
    left_out = result["ignored_backbone_tensors"]
    lines = [
        f"checkpoint: {result['checkpoint']}",
        f"sha256: {result['sha256']}",
        f"cache: {result['cache']}",
        "weights of the backbone: those of the cache"
        + (f" ({left_out} tensors of one in the checkpoint left out)" if left_out else ""),
    ]
    if "groups" in result:
        lines.append(_describe_groups(result["groups"]))
    predicting = find_model(result["model"]).predicting(result)
    return lines + [f"{name}: {show_value(value)}" for name, value in predicting.items()]


def percent(value: float | None) -> str:
    """A figure with one decimal, or a dash where there was no image to tell."""
    return "–" if value is None else f"{value:.1f}"
