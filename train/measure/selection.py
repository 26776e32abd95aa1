"""How the weights are chosen that a run ends with: the protocols of `--select`."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from msdn.terminal import counted
from msdn.train.loop.settings import RunSettings

Record = dict[str, Any]
COMPARED = ("acc", "U", "S", "H", "AUSUC")  # figures that runs are compared by
KEPT = ("U", "S", "H", "acc")  # figures that are kept with the best epoch on the test classes
VALIDATION, FINAL = "validation", "final"  # phases of a run; records of the first say so, the others need not
_FIGURE = {"gzsl": "H", "czsl": "acc"}
RATE = "learning_rate"  # in the records of a search and in what it chose
_EPOCHS_TO_ONE_NEIGHBOUR = 20  # of a search: how many epochs there are to one that counts on either side
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

    Where learning rates are searched, an epoch counts as much as those around it do on average, and takes the median of
    their margins: validation is small there, and of so many epochs one is always lucky.
    """
    validated = [record for record in records if record.get("phase") == VALIDATION]
    searched = RATE in validated[0]
    reach = validated[0]["epochs"] // _EPOCHS_TO_ONE_NEIGHBOUR if searched else 0

    def around(record: Record) -> list[Record]:
        return [
            one
            for one in validated
            if one.get(RATE) == record.get(RATE) and abs(one["epoch"] - record["epoch"]) <= reach
        ]

    def worth(record: Record) -> float:
        return fmean(figure_of(task, one, "val_") for one in around(record))

    best = max(validated, key=lambda record: (worth(record), -record["epoch"]))
    figures = {name: value for name, value in best.items() if name.startswith("val_")}
    margin = median(one["val_margin"] for one in around(best))
    found = {RATE: best[RATE], "validation_epochs": len(validated)} if searched else {}
    return {"epochs": best["epoch"], "margin": margin, **figures, **found}


def describe_selection(settings: RunSettings, chosen: dict[str, Any] | None) -> str:
    """One sentence for every output: what was chosen, and on which classes."""
    by = _FIGURE[settings.task]
    if settings.select == "last":
        return "last (a fixed number of epochs, nothing chosen on test images)"
    if settings.select == "val":
        epochs = f"{chosen['epochs']} of {counted(settings.passes, 'epoch')}" if chosen else "epochs"
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
