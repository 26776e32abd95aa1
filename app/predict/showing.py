"""How predictions are shown and written: a table for people, JSON and CSV for machines."""

import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from msdn.app.predict.predictor import Prediction, Predictor
from msdn.cache.csv_table import write_rows
from msdn.cache.files import check_new, exists_already, new_file
from msdn.terminal import NARROW, counted, escape, say, warn
from msdn.train.measure.reporting import provenance_notes, reconstruction_notes
from msdn.train.measure.show import Result, Table, show

SHOWN = 50  # images on a terminal, before the others are only counted
_COUNTED = 10  # classes whose answers are counted below the table


def tell(predictor: Predictor, found: Iterable[Prediction], as_json: bool, path: Path | None) -> int:
    """Print or write the predictions as they come; return how many images could not be used."""
    shown: list[Prediction] = []
    answers: Counter[str] = Counter()
    bad = masked = 0
    most = SHOWN if sys.stdout.isatty() else math.inf
    with _open_csv(path, predictor.top) as write_line, _json_list(as_json) as print_item:
        for one in found:
            write_line(one)
            print_item(one)
            if one.is_masked:
                masked += 1
                continue
            if one.error:
                bad += 1
                warn(escape(f"{one.image}: {one.error}"))
                continue
            answers[one.answer] += 1
            if len(shown) < most and not as_json:
                shown.append(one)
    if not as_json:
        show(_result(predictor, shown, answers))
    if masked:
        say(f"{counted(masked, 'masked image')} left out")
    if bad:
        warn(f"{bad} of {counted(bad + answers.total(), 'image')} could not be used")
    return bad


def _result(predictor: Predictor, shown: Sequence[Prediction], answers: Counter[str]) -> Result:
    run, kinds, total = predictor.run, Counter(predictor.candidates.kinds), answers.total()
    notes = []
    if total > len(shown):
        given = ", ".join(f"{escape(name)} {count}" for name, count in answers.most_common(_COUNTED))
        notes = [
            f"{total - len(shown)} more images are not shown; --csv FILE or --json gives all",
            f"answers to all {total}: {given}" + (", …" if len(answers) > _COUNTED else ""),
        ]
    notes += [
        f"run: {run.path}",
        f"classes: {len(predictor.candidates.names)} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())}), "
        f"margin {predictor.margin:.3g}",
        *reconstruction_notes([run.settings.model]),
        *provenance_notes(run.manifest["weights"], 0),
    ]
    tables = [_one_image(shown[0])] if len(shown) == 1 else [_many_images(shown)] if shown else []
    return Result({}, tables, notes)


def _one_image(one: Prediction) -> Table:
    below = [] if one.confidence is None else [f"answer: {one.answer}, confidence {one.confidence:.2f}"]
    for side, parts in (("spoke for it", one.spoke_for), ("spoke against it", one.spoke_against)):
        if parts:
            below.append(f"{side}: " + ", ".join(f"{name} {share:+.3f}" for name, share in parts))
    rows = [[answer.name, answer.kind, f"{answer.score:.3f}"] for answer in one.classes]
    return Table(("class", "kind", "score"), rows, escape(one.image), words=("class", "kind"), below=below)


def _many_images(shown: Sequence[Prediction]) -> Table:
    """A line for each image; what spoke for the answer only where there is room beside it."""
    is_wide = not sys.stdout.isatty() or shutil.get_terminal_size().columns >= NARROW
    is_sure = any(one.confidence is not None for one in shown)
    rows = [
        [
            escape(one.image),
            one.answer,
            "–" if one.rejected else one.classes[0].kind,
            f"{one.classes[0].score:.3f}",
            *([f"{one.confidence:.2f}"] if one.confidence is not None else []),
            *([", ".join(name for name, _ in one.spoke_for)] if is_wide else []),
        ]
        for one in shown
    ]
    reasons = ["spoke for it"] * is_wide
    columns = ("image", "answer", "kind", "score", *["confidence"] * is_sure, *reasons)
    return Table(columns, rows, words=("image", "answer", "kind", *reasons), paths=("image",))


@contextmanager
def _json_list(wanted: bool) -> Iterator[Callable[[Prediction], None]]:
    """A list on standard output that takes predictions one by one; it is closed also where an error ends them."""
    printed = 0

    def print_item(one: Prediction) -> None:
        nonlocal printed
        if wanted:
            click.echo((",\n" if printed else "[\n") + json.dumps(one.as_json()), nl=False)
            printed += 1

    try:
        yield print_item
    finally:
        if wanted:
            click.echo("\n]" if printed else "[]")


@contextmanager
def _open_csv(path: Path | None, top: int) -> Iterator[Callable[[Prediction], None]]:
    """A new CSV file that takes predictions one by one and has its name once all are in; without a path, nothing."""
    if path is None:
        yield lambda _one: None
        return
    check_new(path, "--csv")
    try:
        with (
            new_file(path, replaces=False) as beside,
            beside.open("w", encoding="utf-8", newline="") as file,
        ):
            write_rows(file, [_columns(top)])
            yield lambda one: write_rows(file, [_cells(one, top)])
    except FileExistsError as error:
        raise exists_already(path, "--csv") from error


def _columns(top: int) -> list[str]:
    ranked = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "kind", "score")]
    return ["image", "answer", "confidence", *ranked, "spoke_for", "spoke_against", "error"]


def _cells(one: Prediction, top: int) -> list[str]:
    ranked = [cell for answer in one.classes for cell in (answer.name, answer.kind, f"{answer.score:.6g}")]
    return [
        one.image,
        "" if one.error else one.answer,
        "" if one.confidence is None else f"{one.confidence:.6g}",
        *ranked,
        *[""] * (3 * top - len(ranked)),
        *("; ".join(name for name, _ in side) for side in (one.spoke_for, one.spoke_against)),
        one.error,
    ]
