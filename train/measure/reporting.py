"""The sentences that stage two says of trainings and figures. Loads no torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msdn.cache.home import command_line
from msdn.train.loop.settings import RunSettings, fields_of, option_name
from msdn.train.measure.selection import RATE
from msdn.train.measure.show import percent, show_settings, show_value
from msdn.train.models.registry import find_model

WATCHED = "test figures were shown while training (--watch-test)"
_MORE_STEPS = "more --epochs, a higher --lr"
_OTHER_MARGIN = "--select val, which chooses the margin, another --margin, or fewer --epochs"
_OTHER_CLASSES = "attributes that can be seen in the pictures, more classes to train on, or other features"
_EPOCH_FIGURES = ("U", "S", "H", "acc")
_VAL_FIGURES = ("H", "AUSUC", "acc")
TERMS = {
    "loss": "the weighted sum that training lowers",
    "ce": "cross-entropy",
    "ce_av": "cross-entropy of A→V",
    "ce_va": "cross-entropy of V→A",
    "ce_coarse": "cross-entropy of the coarse expert",
    "ce_fine": "cross-entropy of the fine expert",
    "cal": "self-calibration",
    "cal_av": "self-calibration of A→V",
    "cal_va": "self-calibration of V→A",
    "cal_coarse": "self-calibration of the coarse expert",
    "cal_fine": "self-calibration of the fine expert",
    "align_coarse": "distance of the coarse expert's two attentions",
    "align_fine": "distance of the fine expert's two attentions",
    "distill": "distance of the two branches or experts",
    "causal_av": "causal loss of A→V",
    "causal_va": "causal loss of V→A",
    "effect_av": "effect of A→V's attention on the true class",
    "effect_va": "effect of V→A's attention on the true class",
}
_NO_LOSS = ("phase", RATE, "epoch", "epochs", "seconds", *_EPOCH_FIGURES)


def epoch_line(record: Mapping[str, Any]) -> str:
    """One epoch in fixed order: loss, its terms, validation figures, test figures if watched, seconds."""
    epochs = record["epochs"]
    width = len(str(epochs))
    phase = f"{record['phase']} " if "phase" in record else ""
    phase += f"lr {record[RATE]:.3g} " if RATE in record else ""
    parts = [f"{phase}epoch {record['epoch']:>{width}}/{epochs}"]
    parts += [f"{name} {record[name]:.4g}" for name in record if name not in _NO_LOSS and name[:4] != "val_"]
    return "  ".join([*parts, *epoch_figures(record), f"{record['seconds']:.1f} s"])


def terms_note(record: Mapping[str, Any]) -> str:
    """What the loss and its terms in an epoch's line mean; empty where none of them is known."""
    known = [f"{name}: {TERMS[name]}" for name in record if name in TERMS]
    return "; ".join(known)


def epoch_figures(record: Mapping[str, Any]) -> list[str]:
    """The validation figures of an epoch, and its test figures if watched."""
    val = [f"val {name} {percent(record[f'val_{name}'])}" for name in _VAL_FIGURES if f"val_{name}" in record]
    return val + [f"test {name} {percent(record[name])}" for name in _EPOCH_FIGURES if name in record]


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


def counts_note(dataset: str) -> str:
    """Why no published figures stand beside ours, where the cache's splits are of other sizes."""
    return f"splits: their sizes are not those of {dataset}, so no published figures are shown beside these"


def is_hardly_better(figure: float | None, chance: float) -> bool:
    """Whether a figure has hardly left chance: below twice of it, or below halfway to 100 % where that is less."""
    return figure is not None and figure < chance + min(chance, (100 - chance) / 2)


def learning_notes(result: Mapping[str, Any]) -> list[str]:
    """What to say, and to try, where a training has hardly left chance; what is wrong first where it shows first."""
    told, chosen = result.get("training"), result.get("chosen")
    if not told or told["seen"] is None:
        return []
    if is_hardly_better(told["seen"], told["chance_seen"]):
        return [
            f"hardly better than chance: {told['seen']:.1f} % of training images are recognised, guessing gives "
            f"{told['chance_seen']:.1f} %; try {_MORE_STEPS}, --model baseline, or other features "
            "('msdn extract' with trained weights)"
        ]
    if is_hardly_better(told["all"], told["chance_all"]):
        return [
            f"the margin of {result['margin']:.3g} is too large for these scores: with it {told['all']:.1f} % of "
            "training images are recognised; try --select val, which chooses it, or a smaller --margin"
        ]
    if result.get("select") == "val" and chosen and is_hardly_better(chosen["val_H"], told["chance_all"]):
        return [
            f"hardly better than chance on validation classes: H {chosen['val_H']:.1f} %, guessing gives "
            f"{told['chance_all']:.1f} %; try {_OTHER_CLASSES}"
        ]
    return _overfitting_notes(result, told["seen"])


def _overfitting_notes(result: Mapping[str, Any], seen: float) -> list[str]:
    """What to say where training images are recognised, but the test classes are not."""
    chance, acc, h = result.get("chance", {}), result.get("acc"), result.get("H")
    although = f"although {seen:.1f} % of training images are recognised"
    if "acc" in chance and is_hardly_better(acc, chance["acc"]):
        return [
            f"hardly better than chance on unseen classes: acc {percent(acc)} %, guessing gives {chance['acc']:.1f} %, "
            f"{although}; try {_OTHER_CLASSES}"
        ]
    if "H" in chance and is_hardly_better(h, chance["H"]):
        return [
            f"hardly better than chance when all classes compete: H {percent(h)} %, guessing gives "
            f"{chance['H']:.1f} %, {although}; try {_OTHER_CLASSES if result.get('select') == 'val' else _OTHER_MARGIN}"
        ]
    return []


def seeds_learning_notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same of several seeds: the first such note whole, of the others which seeds they are of."""
    poor = [(str(result["seed"]), note) for result in results for note in learning_notes(result)]
    others = ", ".join(seed for seed, _ in poor[1:])
    return [
        f"seed {seed}: {note}" + (f" (likewise seed {others})" if others else "") for seed, note in poor[:1]
    ]


def study_learning_notes(
    rows: Sequence[tuple[str, str, float | None]], chance: Mapping[str, float]
) -> list[str]:
    """What to say of a study's rows, each with its label, the figure it goes by, and that figure's mean."""
    poor = [
        f"{label} ({name} {percent(mean)} %, guessing gives {chance[name]:.1f} %)"
        for label, name, mean in rows
        if name in chance and is_hardly_better(mean, chance[name])
    ]
    if not poor:
        return []
    return [f"hardly better than chance: {'; '.join(poor)}; try {_MORE_STEPS}, or {_OTHER_CLASSES}"]


def reconstruction_notes(models: Iterable[str]) -> list[str]:
    """What to say of models whose method's text was not available."""
    return [note for name in dict.fromkeys(models) if (note := find_model(name).reconstruction)]


def rule_lines(settings: RunSettings, rule: Mapping[str, str] | None) -> list[str]:
    """What the rule for data without a preset chose, a line each with the reason; nothing where it had no say."""
    if rule is None:
        return []
    own = fields_of(type(settings))
    return [
        f"no preset for these data; the rule for their amounts chose{':' if rule else ' nothing'}",
        *(
            f"  {option_name(own[name])} {show_value(getattr(settings, name))}: {why}"
            for name, why in rule.items()
        ),
    ]


def preset_words(settings: RunSettings, preset: str | None, rule: Mapping[str, str] | None) -> str:
    """Where settings come from: the preset, or that there is none and the rule chose."""
    if rule is None:
        return preset or "none"
    chose = show_settings({name: getattr(settings, name) for name in rule}) or "nothing"
    return f"{preset or 'none for these data'}; the rule for their amounts chose: {chose}"


def read_time(stored: str) -> str:
    """A manifest's moment for people: `2026-11-21 21:34`, in the time zone it was written in."""
    return stored.replace("T", " ")[:16]


def groups_line(groups: Mapping[str, Any]) -> str:
    """Where groups of attributes, as a manifest keeps them, come from, and how many attributes each has."""
    shown = ", ".join(f"{one['name']} {len(one['attributes'])}" for one in groups["groups"])
    return f"attribute groups: {groups['source']} ({shown})"


def training_notes(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What to know of single trainings, each with its name: which failed, and which showed test figures."""
    failed = {name: result for name, result in results if result.get("failed")}
    lines = [f"failed: {name}: {result['failed']} ({result['run']})" for name, result in failed.items()]
    if failed:
        first = command_line("runs", "delete", Path(next(iter(failed.values()))["run"]))
        lines.append(f"failed trainings are not repeated; to try one again, delete its folder: {first}")
    watched = [name for name, result in results if result.get("watch_test")]
    return lines + [f"{WATCHED}: {'; '.join(watched)}"] * bool(watched)
