"""The report's curves: training, seen against unseen, confidence, and sweeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msdn.app.report.charts import MUTED, SERIES, Chart, Key, log_axis, percent_axis, whole_axis
from msdn.app.report.html import Html, missing, note
from msdn.app.report.subjects import Record, Subject
from msdn.terminal import counted
from msdn.train.measure.metrics import Curve, harmonic_mean, seen_unseen_curve
from msdn.train.measure.predictions import coverage_curve, reliability
from msdn.train.measure.reporting import TERMS
from msdn.train.measure.selection import RATE, VALIDATION
from msdn.train.measure.show import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Parts = list[Chart | Html]
Series = tuple[Key, list[Any], list[Any]]  # a line: what it is called, across, up
_FIGURES = ("H", "U", "S", "acc")
_NO_LOSS = ("phase", "epoch", "epochs", "seconds", RATE, *_FIGURES)
_DIGITS = 6
_DASHES = ("-", "--", ":")


def key_of(label: str, number: int) -> Key:
    """The number-th line's colour, and its dashes where colours repeat."""
    return Key(label, SERIES[number % len(SERIES)], _DASHES[number // len(SERIES) % len(_DASHES)])


def training(subjects: Sequence[Subject]) -> Parts:
    """Loss and accuracy over the epochs; the validation phase by itself."""
    losses, accuracies = Parts(), Parts()
    for phase, title in ((VALIDATION, "validation phase"), (None, "final training")):
        with_it = [(one, one.epochs(phase)) for one in subjects]
        with_it = [(one, records) for one, records in with_it if records]
        if not with_it:
            continue
        about = f", {title}" if any(one.epochs(VALIDATION) for one in subjects) else ""
        if len(subjects) == 1:
            losses.append(_loss_terms(with_it[0][1], f"loss-{phase or 'final'}", f"Loss{about}"))
        else:
            losses.append(_losses(with_it, f"loss-{phase or 'final'}", f"Loss{about}"))
        accuracies += _accuracies(with_it, phase, about)
    parts = [*losses, *accuracies, *(_search(one, len(subjects)) for one in subjects if one.searched)]
    without = [one.label for one in subjects if not one.records]
    if without:
        parts.append(missing(f"{', '.join(without)}: no epochs are recorded (metrics.jsonl is missing)."))
    if subjects and not any("H" in one or "val_H" in one for subject in subjects for one in subject.records):
        parts.append(
            note(
                "Accuracy was not measured while training: nothing may be chosen on test images. Train with "
                "--select val to see validation accuracy over the epochs."
            )
        )
    return parts


def _loss_terms(records: Sequence[Record], name: str, title: str) -> Chart:
    """One run's loss with its terms."""
    terms = [key for key in records[0] if key not in _NO_LOSS and not key.startswith("val_")]
    lines = [{"epoch": one["epoch"], **{term: one.get(term) for term in terms}} for one in records]
    keys = [key_of(f"{term}: {TERMS[term]}" if term in TERMS else term, n) for n, term in enumerate(terms)]
    series = [
        (key, [one["epoch"] for one in lines], [one[term] for one in lines])
        for key, term in zip(keys, terms, strict=True)
    ]
    first, last = records[0].get("loss"), records[-1].get("loss")
    described = f"{title}: over {counted(len(records), 'epoch')}"
    if first is not None and last is not None:
        described += f" the loss goes from {first:.3g} to {last:.3g}"
    return Chart(
        name,
        title,
        described + ".",
        lines,
        _lines(series, "epoch", "loss", is_log=True),
        keys,
        below="The axis of the loss is logarithmic." if _all_positive(series) else "",
    )


def _losses(subjects: Sequence[tuple[Subject, list[Record]]], name: str, title: str) -> Chart:
    """Several runs' losses."""
    lines: list[Record] = []
    series: list[Series] = []
    for one, records in subjects:
        with_loss = [record for record in records if "loss" in record]
        lines += [{"run": one.label, "epoch": r["epoch"], "loss": r["loss"]} for r in with_loss]
        series.append(
            (key_of(one.label, one.number), [r["epoch"] for r in with_loss], [r["loss"] for r in with_loss])
        )
    ends = "; ".join(f"{key.label} ends at {y[-1]:.3g}" for key, _, y in series if y)
    keys = [key for key, _, _ in series]
    below = "Losses of different models are not comparable; the axis is logarithmic."
    return Chart(
        name,
        title,
        f"{title}: {ends}.",
        lines,
        _lines(series, "epoch", "loss", is_log=True),
        keys,
        below=below,
    )


def _accuracies(subjects: Sequence[tuple[Subject, list[Record]]], phase: str | None, about: str) -> Parts:
    """What was measured after every epoch: on validation classes, or on test images where that was asked for."""
    prefix = "val_" if phase == VALIDATION else ""
    known = [(one, [r for r in records if f"{prefix}H" in r]) for one, records in subjects]
    known = [(one, records) for one, records in known if records]
    if not known:
        return []
    on = "validation classes" if phase == VALIDATION else "TEST images"
    title = f"Accuracy on {on}{about}"
    lines: list[Record] = []
    series: list[Series] = []
    shown = _FIGURES if len(known) == 1 else ("H",)
    for one, records in known:
        for figure in shown:
            key = key_of(figure, len(series)) if len(known) == 1 else key_of(one.label, one.number)
            values = [r.get(prefix + figure) for r in records]
            series.append((key, [r["epoch"] for r in records], [np.nan if v is None else v for v in values]))
        lines += [
            {"run": one.label, "epoch": r["epoch"], **{f: r.get(prefix + f) for f in shown}} for r in records
        ]
    chosen = [one.run.chosen["epochs"] for one, _ in known if prefix and one.run.chosen]
    below = "H of every run. " if len(known) > 1 else ""
    if chosen and len(known) == 1:
        below += f"The vertical line: epoch {chosen[0]}, which was chosen."
    ends = "; ".join(f"{key.label} ends at {y[-1]:.1f} %" for key, _, y in series)
    draw = _lines(series, "epoch", "%", marks=chosen if len(known) == 1 else ())
    name = f"accuracy-{phase or 'final'}"
    return [Chart(name, title, f"{title}: {ends}.", lines, draw, [key for key, _, _ in series], below=below)]


def _search(one: Subject, count: int) -> Chart:
    """H on the validation classes over the epochs, for each learning rate that was tried."""
    series = [
        (key_of(f"{rate:g}", n), [r["epoch"] for r in records], [r.get("val_H") for r in records])
        for n, (rate, records) in enumerate(one.searched.items())
    ]
    lines = [
        {"learning_rate": rate, "epoch": r["epoch"], "H": r.get("val_H")}
        for rate, records in one.searched.items()
        for r in records
    ]
    title = "H on validation classes, by learning rate" + (f": {one.label}" if count > 1 else "")
    chosen = (one.run.chosen or {}).get(RATE)
    below = "" if chosen is None else f"{chosen:g} was chosen, and the other charts of this phase show it."
    name = f"search-{one.number + 1}" if count > 1 else "search"
    keys = [key for key, _, _ in series]
    return Chart(name, title, f"{title}. {below}", lines, _lines(series, "epoch", "%"), keys, below=below)


def _all_positive(series: Sequence[Series]) -> bool:
    return all(v is not None and v > 0 for _, _, values in series for v in values)


def _lines(
    series: Sequence[Series],
    across: str,
    up: str,
    is_log: bool = False,
    marks: Sequence[float] = (),
) -> "Callable[[Axes], None]":
    """Lines over whole numbers; logarithmic upwards where asked for and possible."""

    def draw(axes: "Axes") -> None:
        for key, xs, ys in series:
            marker = "o" if len(xs) < 3 else ""
            axes.plot(
                xs,
                [np.nan if y is None else y for y in ys],
                color=key.colour,
                linestyle=key.dash,
                marker=marker,
                markersize=3,
            )
        for mark in marks:
            axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        if is_log and _all_positive(series):
            axes.set_yscale("log")
            log_axis(axes.yaxis)
        elif up == "%":
            axes.set_ylim(0, 102)
            percent_axis(axes.yaxis)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        whole_axis(axes.xaxis)

    return draw


def seen_unseen(subjects: Sequence[Subject]) -> Parts:
    """S over U as the margin changes, with the point at which each run predicts; and H over the margin."""
    drawn, parts = list[Point](), Parts()
    for one in subjects:
        curve = one.scores and seen_unseen_curve(
            one.scores.gzsl.unseen_images, one.scores.gzsl.seen_images, one.scores.gzsl.seen_classes
        )
        if curve and one.scores and one.result:
            drawn.append(Point(key_of(one.label, one.number), curve, one.scores.margin, one.result))
        else:
            why = one.missing or "There are no test images of seen classes."
            parts.append(missing(f"{one.label}: the curve needs the scores of all test images. {why}"))
    return [_curve_chart(drawn), _margin_chart(drawn), *parts] if drawn else parts


@dataclass(frozen=True)
class Point:
    """A run's curve, and where on it the run predicts."""

    key: Key
    curve: Curve
    margin: float
    result: dict[str, Any]

    def lines(self) -> list[dict[str, Any]]:
        """The curve's points, in percent."""
        curve = self.curve
        return [
            {"run": self.key.label, "margin": _short(m), "U": _short(100 * u), "S": _short(100 * s)}
            for m, u, s in zip(curve.margins, curve.u, curve.s, strict=True)
        ]


def _short(value: float | None) -> float:
    """A number of a long curve, with as many digits as anybody reads."""
    return round(float(value or 0), _DIGITS)


def _curve_chart(drawn: Sequence[Point]) -> Chart:
    def draw(axes: "Axes") -> None:
        for one in drawn:
            u, s = 100 * one.curve.u, 100 * one.curve.s
            if len(drawn) == 1:
                axes.fill_between(u, s, color=one.key.colour, alpha=0.12, linewidth=0)
            axes.plot(u, s, color=one.key.colour, linestyle=one.key.dash)
            axes.plot(one.result["U"], one.result["S"], "o", color=one.key.colour, markersize=6)
        axes.set(xlim=(0, 100), ylim=(0, 102))
        axes.set(xlabel="U: unseen images right, %", ylabel="S: seen images right, %")
        axes.grid(True, axis="both")
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)

    told = ". ".join(
        f"{one.key.label}: AUSUC {percent(one.result['AUSUC'])} %; at its margin {one.margin:.3g} "
        f"U {percent(one.result['U'])} %, S {percent(one.result['S'])} %, H {percent(one.result['H'])} %"
        for one in drawn
    )
    below = (
        "A larger margin favours unseen classes: the curve runs from the left, where only seen classes are "
        "answered, to the right. The area under it is AUSUC. The dot is the operating point: the margin the run "
        "predicts with." + (f" {told}." if len(drawn) == 1 else "")
    )
    lines = [line for one in drawn for line in one.lines()]
    described = f"S over U as the margin changes. {told}."
    keys = [one.key for one in drawn]
    return Chart("seen-unseen", "S over U", described, lines, draw, keys, size=(4.0, 3.3), below=below)


def _margin_chart(drawn: Sequence[Point]) -> Chart:
    """U, S and H of one run over the margin; H alone of several."""
    lines: list[dict[str, Any]] = []
    series: list[Series] = []
    for one in drawn:
        of_run = [{**line, "H": _short(harmonic_mean(line["U"], line["S"]))} for line in one.lines()]
        lines += of_run
        for figure in ("H", "U", "S") if len(drawn) == 1 else ("H",):
            key = key_of(figure, len(series)) if len(drawn) == 1 else one.key
            series.append((key, [line["margin"] for line in of_run], [line[figure] for line in of_run]))

    def draw(axes: "Axes") -> None:
        for key, margins, values in series:
            axes.plot(margins, values, color=key.colour, linestyle=key.dash)
        for one in drawn:
            colour = MUTED if len(drawn) == 1 else one.key.colour
            axes.axvline(one.margin, color=colour, linewidth=0.8, linestyle="--", zorder=0)
        axes.set(ylim=(0, 102), xlabel="margin", ylabel="%" if len(drawn) == 1 else "H, %")
        percent_axis(axes.yaxis)

    told = []
    for one in drawn:
        margin, h = one.curve.best()
        told.append(
            f"{one.key.label}: H {percent(one.result['H'])} % at its margin, at most {100 * h:.1f} % at {margin:.3g}"
        )
    below = (
        f"The dashed line is the run's margin. {'; '.join(told)}. The best margin is seen only on test images: it is "
        "shown to judge the choice, not to be used."
    )
    title = "U, S and H over the margin" if len(drawn) == 1 else "H over the margin"
    keys = [key for key, *_ in series]
    return Chart(
        "margin", title, f"{title}. {'; '.join(told)}.", lines, draw, keys, size=(4.0, 3.3), below=below
    )


def confidence(subjects: Sequence[Subject]) -> Parts:
    """Whether confidences can be trusted, and what is gained by answering only where it is high."""
    parts = Parts()
    known: list[tuple[Key, Subject]] = []
    for one in subjects:
        if one.answers is not None and one.answers.confidence is not None:
            known.append((key_of(one.label, one.number), one))
        elif one.run.settings.select != "val":
            parts.append(
                missing(
                    f"{one.label}: its confidence is not calibrated. That is done on validation classes: train with "
                    "--select val."
                )
            )
        else:
            parts.append(
                missing(f"{one.label}: confidences need the scores of all test images. {one.missing}")
            )
    if not known:
        return parts
    return [_reliability_chart(known), _coverage_chart(known), *parts]


def _reliability_chart(known: Sequence[tuple[Key, Subject]]) -> Chart:
    lines, drawn, told = [], [], []
    for key, one in known:
        assert one.answers is not None and one.answers.confidence is not None
        found = reliability(one.answers.confidence, one.answers.right)
        lines += [{"run": one.label, **part} for part in found.bins]
        drawn.append((key, found))
        told.append(f"{one.label}: expected calibration error {100 * found.error:.1f} %")

    def draw(axes: "Axes") -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle="--")
        for key, found in drawn:
            total = sum(part["images"] for part in found.bins)
            xs = [100 * part["confidence"] for part in found.bins]
            ys = [100 * part["right"] for part in found.bins]
            sizes = [6 + 150 * part["images"] / total for part in found.bins]
            axes.plot(xs, ys, color=key.colour, linestyle=key.dash)
            axes.scatter(xs, ys, sizes, color=key.colour, linewidth=0)
        axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence, %", ylabel="right, %")
        axes.grid(True, axis="both")
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)

    keys = [key for key, _ in drawn]
    below = (
        "Test images in ten bins of confidence; a larger dot is a bin of more images. On the dashed line a confidence "
        f"of 80 % is right in 80 of 100. {'; '.join(told)}."
    )
    return Chart(
        "reliability",
        "Reliability",
        f"Share right over confidence. {'; '.join(told)}.",
        lines,
        draw,
        keys,
        size=(4.0, 3.3),
        below=below,
    )


def _coverage_chart(known: Sequence[tuple[Key, Subject]]) -> Chart:
    lines: list[dict[str, Any]] = []
    drawn: list[tuple[Key, np.ndarray, np.ndarray]] = []
    told = []
    for key, one in known:
        answers = one.answers
        assert answers is not None and answers.confidence is not None
        parts = {"all": np.ones(len(answers.labels), bool)}
        if len(known) == 1:
            parts |= {"unseen": answers.is_unseen, "seen": ~answers.is_unseen}
        for kind, chosen in parts.items():
            if not chosen.any():
                continue
            coverage, share = coverage_curve(answers.confidence[chosen], answers.right[chosen])
            label = f"{kind} test images" if len(known) == 1 else one.label
            line = key_of(label, len(drawn)) if len(known) == 1 else key
            drawn.append((line, 100 * coverage, 100 * share))
            half = share[np.searchsorted(coverage, 0.5)]
            told.append(f"{label} {100 * share[-1]:.1f} and {100 * half:.1f} %")
            lines += [
                {"run": one.label, "images": kind, "coverage": _short(c), "right": _short(a)}
                for c, a in zip(coverage, share, strict=True)
            ]

    def draw(axes: "Axes") -> None:
        for key, coverage, share in drawn:
            axes.plot(coverage, share, color=key.colour, linestyle=key.dash)
        least = min(float(share.min()) for *_, share in drawn)
        axes.set(xlim=(0, 100), ylim=(20 * (least // 20), 102))
        axes.set(xlabel="answered, % of images", ylabel="right, % of answers")
        axes.grid(True, axis="both")
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis, 102 - 20 * (least // 20))

    keys = [key for key, _, _ in drawn]
    described = f"Right of all, and of the surest half: {'; '.join(told)}."
    below = (
        "Only the images whose confidence is highest are answered, the others are rejected (msdn predict --reject). "
        f"Every image counts the same here, not every class. {described}"
    )
    return Chart(
        "coverage", "Coverage and accuracy", described, lines, draw, keys, size=(4.0, 3.3), below=below
    )
