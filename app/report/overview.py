"""The report's first sections: the figures beside chance and the papers', and what they belong to."""

from collections.abc import Sequence
from typing import Any

from msdn.app.report.html import Html, element, figure_cell, join, missing, note, table
from msdn.app.report.subjects import Subject, seeds_together
from msdn.terminal import counted
from msdn.train.measure.reporting import (
    WATCHED,
    counts_note,
    groups_line,
    preset_words,
    provenance_notes,
    read_time,
    reconstruction_notes,
)
from msdn.train.measure.selection import COMPARED, describe_selection
from msdn.train.measure.show import Cell, percent, show_settings, show_value
from msdn.train.measure.summary import summarize
from msdn.train.models.published import PAPER_FIGURES
from msdn.train.runs.results import own_margin

MEANINGS = {
    "acc": "unseen test images, only unseen classes compete",
    "U": "unseen test images, all classes compete",
    "S": "seen test images, all classes compete",
    "H": "harmonic mean of U and S",
    "AUSUC": "area under S over U as the margin changes; needs no margin",
}
_TILES = ("H", "U", "S", "acc")


def summary(subjects: Sequence[Subject]) -> list[Html]:
    """Figures of all runs, with what guessing reaches and what the papers state."""
    measured = [one for one in subjects if one.result is not None]
    parts = [_tiles(measured[0])] if len(subjects) == len(measured) == 1 else []
    rows: list[list[Cell | Html]] = []
    for dataset in dict.fromkeys(one.run.dataset for one in measured):
        here = [one for one in measured if one.run.dataset == dataset]
        rows += _rows_of(here, dataset if len({one.run.dataset for one in measured}) > 1 else "")
    if rows:
        parts.append(table(("mean of classes, %", *COMPARED), rows, words=("mean of classes, %",)))
        meanings = [join([element("dt", name), element("dd", text)]) for name, text in MEANINGS.items()]
        parts.append(element("dl", *meanings, class_="meanings"))
    parts += [missing(f"{one.label}: no test figures. {one.missing}") for one in subjects if not one.result]
    return [*parts, _notes(subjects)]


def _tiles(one: Subject) -> Html:
    assert one.result is not None
    tiles = [
        element(
            "div",
            element("span", name, class_="name"),
            element("span", figure_cell(one.result[name]), class_="figure"),
            element("span", f"chance {percent(one.result['chance'].get(name))}", class_="chance"),
            class_="tile",
        )
        for name in _TILES
    ]
    return element("div", *tiles, class_="tiles")


def _rows_of(subjects: Sequence[Subject], dataset: str) -> list[list[Cell | Html]]:
    """One dataset's rows: chance, the runs, their seeds together, the papers."""
    tail = f" on {dataset}" if dataset else ""
    chance: dict[str, Any] = subjects[0].result["chance"] if subjects[0].result else {}
    rows: list[list[Cell | Html]] = [
        [f"chance{tail}", *("" if name not in chance else float(chance[name]) for name in COMPARED)]
    ]
    rows += [[one.label + tail, *((one.result or {}).get(name) for name in COMPARED)] for one in subjects]
    for group in seeds_together(subjects):
        figures = summarize([one.result or {} for one in group], COMPARED)
        model = group[0].run.settings.model
        rows.append([f"{model}{tail}, mean ± std of {len(group)} seeds", *figures.values()])
    papers = {one.run.settings.model: one.published for one in subjects if one.published}
    for model, stated in papers.items():
        cells = [getattr(stated, name) if name in PAPER_FIGURES else "" for name in COMPARED]
        rows.append([f"{model}{tail}, the paper ({stated.selection})", *cells])
    return rows


def _notes(subjects: Sequence[Subject]) -> Html:
    lines = dict.fromkeys(
        f"paper: {one.run.settings.model} from {one.published.source}" for one in subjects if one.published
    )
    for one in subjects:
        manifest = one.run.manifest
        lines |= dict.fromkeys(provenance_notes(manifest["weights"], manifest["masked_images"]))
        if manifest.get("counts_differ"):
            lines[counts_note(one.run.dataset)] = None
        if manifest.get("watch_test"):
            lines[f"{one.label}: {WATCHED}"] = None
    lines |= dict.fromkeys(reconstruction_notes(one.run.settings.model for one in subjects))
    return join([note(line) for line in lines])


def protocol(subjects: Sequence[Subject]) -> list[Html]:
    """What was trained, on what, how the weights were chosen, and with which versions."""
    facts = [_facts(one) for one in subjects]
    names = dict.fromkeys(name for own in facts for name in own)
    rows: list[list[Cell | Html]] = [[name, *(own.get(name, "–") for own in facts)] for name in names]
    labels = [one.label for one in subjects] if len(subjects) > 1 else ["this run"]
    settings = dict.fromkeys(name for one in subjects for name in one.run.settings.as_json())
    all_settings: list[list[Cell | Html]] = [
        [name, *(_setting(one, name) for one in subjects)] for name in settings
    ]
    columns = ("", *labels)
    return [
        table(columns, rows, words=columns, class_="facts"),
        element(
            "details",
            element("summary", "All settings"),
            table(columns, all_settings, words=columns, class_="facts"),
        ),
    ]


def _setting(one: Subject, name: str) -> str:
    own = one.run.settings.as_json()
    return show_value(own[name]) if name in own else "–"


def _facts(one: Subject) -> dict[str, str]:
    """Everything of a run by its name, as people read it."""
    run, manifest = one.run, one.run.manifest
    settings, changed = run.settings, dict(manifest.get("overrides") or {})
    for name in ("model", "task", "seed", "select"):
        changed.pop(name, None)
    margin = own_margin(run)
    facts = {
        "run": run.path.name,
        "dataset": run.dataset,
        "classes and images": _counts(one),
        "model": settings.model,
        "preset": preset_words(settings, manifest.get("preset"), manifest.get("rule")),
        "changed" if manifest.get("rule") is None else "given": show_settings(changed) or "nothing",
        "seed": str(settings.seed),
        "selection": describe_selection(settings, run.chosen),
        "margin": "–" if margin is None else f"{margin:.4g}",
        "features": f"{manifest['cache']['fingerprint'][:12]}, map {run.map}, {manifest['weights']} weights",
        **_recipe(one),
        "training": _training(one),
        "started": read_time(str(manifest["started"])),
        "made with": ", ".join(f"{name} {value}" for name, value in manifest["environment"].items()),
    }
    if manifest.get("groups"):
        facts["groups"] = groups_line(manifest["groups"]).removeprefix("attribute groups: ")
    return facts


def _counts(one: Subject) -> str:
    if one.cache is None:
        return "not known here: the features are missing"
    a, rows = one.cache.annotations, one.cache.rows
    seen, unseen = len(a.seen_classes), len(a.unseen_classes)
    return (
        f"{seen} seen and {counted(unseen, 'unseen class')}, {counted(a.attributes.shape[1], 'attribute')}; "
        f"{counted(len(rows('trainval')), 'training image')}, {counted(len(rows('test_seen')), 'test image')} of seen "
        f"classes and "
        f"{len(rows('test_unseen'))} of unseen ones"
    )


def _recipe(one: Subject) -> dict[str, str]:
    if one.cache is None:
        return {}
    recipe = one.cache.provenance
    backbone = recipe.get("backbone")
    name = backbone.get("name", "not known") if isinstance(backbone, dict) else "not known"
    _, height, width, channels = one.cache.shape
    return {
        "backbone": f"{name}, {height} × {width} regions of {channels} channels",
        "images": f"{recipe.get('image_size', '?')} pixels; {recipe.get('transform', 'preparation not known')}",
    }


def _training(one: Subject) -> str:
    device = f"on {one.run.manifest['device']}"
    if one.result is None:
        return device
    return (
        f"{counted(one.run.settings.passes, 'epoch')}, {one.result['training_seconds']:.0f} s {device}, "
        f"{one.result['parameters']:,} parameters"
    )
