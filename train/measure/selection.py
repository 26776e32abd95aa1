"""How the weights are chosen that a run ends with: the protocols of `--select`."""

from collections.abc import Sequence
from typing import Any

from msdn.train.loop.settings import RunSettings

Record = dict[str, Any]
COMPARED = ("acc", "U", "S", "H", "AUSUC")  # figures that runs are compared by
KEPT = ("U", "S", "H", "acc")  # figures that are kept with the best epoch on the test classes
VALIDATION, FINAL = "validation", "final"  # phases of a run; records of the first say so, the others need not
_FIGURE = {"gzsl": "H", "czsl": "acc"}
RATE = "learning_rate"  # in the records of a search and in what it chose
_BEST_SHARE = 0.2
_DIGITS = 9  # of a figure in percent; beyond them its sum's rounding begins


def kept_tasks(settings: RunSettings) -> tuple[str, ...]:
    """The tasks whose best epoch on the test classes is kept; none unless selection is on the test set."""
    if settings.select != "test":
        return ()
    return ("gzsl", "czsl") if settings.paper_style else (settings.task,)


def figure_of(task: str, record: Record, prefix: str = "") -> float:
    """What the task goes by, so that equals are equal in spite of rounding; −1 where there was no image to tell."""
    value = record[prefix + _FIGURE[task]]
    return -1.0 if value is None else round(float(value), _DIGITS)


def choose_on_validation(records: Sequence[Record], task: str) -> dict[str, Any]:
    """The epoch that was best on the validation classes, the first of equals, with its margin and figures.

    Of several learning rates it is one of that rate whose epochs were best on average, from its best `_BEST_SHARE` on:
    a rate is not to win by one lucky epoch.
    """
    validated = [record for record in records if record.get("phase") == VALIDATION]
    rates = list(dict.fromkeys(record.get(RATE) for record in validated))
    if len(rates) > 1:
        rate = max(rates, key=lambda one: _typical_figure(task, [r for r in validated if r.get(RATE) == one]))
        validated = [record for record in validated if record.get(RATE) == rate]
    best = max(validated, key=lambda record: (figure_of(task, record, "val_"), -record["epoch"]))
    figures = {name: value for name, value in best.items() if name.startswith("val_") or name == RATE}
    return {"epochs": best["epoch"], "margin": best["val_margin"], **figures}


def _typical_figure(task: str, records: Sequence[Record]) -> float:
    """The mean of the best `_BEST_SHARE` of the epochs."""
    ranked = sorted((figure_of(task, record, "val_") for record in records), reverse=True)
    best = ranked[: max(round(len(ranked) * _BEST_SHARE), 1)]
    return sum(best) / len(best)


def expected_epochs(settings: RunSettings, chosen: dict[str, Any] | None) -> int:
    """How many epochs a finished run trained, over its phases."""
    if settings.select != "val":
        return settings.passes
    return settings.passes * max(len(settings.searched_rates), 1) + (chosen or {}).get("epochs", 0)


def describe_selection(settings: RunSettings, chosen: dict[str, Any] | None) -> str:
    """One sentence for every output: what was chosen, and on which classes."""
    by = _FIGURE[settings.task]
    if settings.select == "last":
        return "last (a fixed number of epochs, nothing chosen on test images)"
    if settings.select == "val":
        epochs = f"{chosen['epochs']} of {settings.passes} epochs" if chosen else "epochs"
        margin = f"margin {chosen['margin']:.3g}" if chosen else "margin"
        if settings.searched_rates:
            margin += f" and learning rate {chosen[RATE]:.3g}" if chosen else " and learning rate"
        return (
            f"val ({epochs} chosen by {by} and {margin} by H on validation classes, trained again on all training "
            "classes)"
        )
    if settings.paper_style:
        return "test, paper style (BEST H AND BEST acc OF ALL EPOCHS ON THE TEST CLASSES, from two epochs)"
    return f"test (EPOCH CHOSEN BY {by} ON THE TEST CLASSES)"
