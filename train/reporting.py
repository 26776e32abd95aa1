"""The lines and tables that stage two shows. Words only, no torch."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

TEST_FIGURES = ("U", "S", "H", "acc")
_MEANINGS = {
    "U": "unseen test images, all classes compete",
    "S": "seen test images, all classes compete",
    "H": "harmonic mean of U and S",
    "acc": "unseen test images, unseen classes compete",
}


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch in fixed order: loss, its terms, test figures if watched, seconds."""
    width = len(str(epochs))
    terms = [name for name in record if name not in ("epoch", "seconds", *TEST_FIGURES)]
    parts = [f"epoch {record['epoch']:>{width}}/{epochs}"]
    parts += [f"{name} {record[name]:.4g}" for name in terms]
    parts += [f"test {name} {percent(record[name])}" for name in TEST_FIGURES if name in record]
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


def figures_table(result: Mapping[str, Any]) -> Table:
    """U, S, H and acc, as far as measured, with the chance level."""
    table = Table(title=f"{result['model']} on {result['dataset']}", title_justify="left")
    table.add_column("figure")
    table.add_column("%", justify="right")
    table.add_column("chance %", justify="right")
    table.add_column("per-class mean of")
    for name in TEST_FIGURES:
        if name in result:
            table.add_row(name, percent(result[name]), percent(result["chance"][name]), _MEANINGS[name])
    return table


def figures_notes(result: Mapping[str, Any]) -> list[str]:
    """What the figures belong to, and how the weights were chosen."""
    lines = _released_notes(result) if "checkpoint" in result else [f"run: {result['run']}"]
    lines += [f"margin: {result['margin']:g}", f"selection: {result['selection']}"]
    if result.get("watch_test"):
        lines.append("test figures were shown while training (--watch-test)")
    return lines + provenance_notes(result["weights"], result["masked_images"])


def _released_notes(result: Mapping[str, Any]) -> list[str]:
    left_out = result["ignored_backbone_tensors"]
    return [
        f"checkpoint: {result['checkpoint']}",
        f"sha256: {result['sha256']}",
        f"cache: {result['cache']}",
        "weights of the backbone: those of the cache"
        + (f" ({left_out} tensors of one in the checkpoint left out)" if left_out else ""),
        f"alpha: {result['alpha'][0]:g} {result['alpha'][1]:g}",
    ]


def percent(value: float | None) -> str:
    """A figure with one decimal, or a dash where there was no image to tell."""
    return "–" if value is None else f"{value:.1f}"
