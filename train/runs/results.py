"""Test figures of finished runs: those kept in their folders where they belong to the run, else measured now."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.cache.errors import MsdnError, WrongUsageError
from msdn.cache.home import Home
from msdn.cache.layout import MAIN
from msdn.cache.records import (
    Kind,
    find_misfit,
    is_duration,
    is_figure,
    is_number,
    is_table,
    is_text,
    read_sealed,
    whole,
)
from msdn.train.errors import RunError
from msdn.train.measure.selection import COMPARED, describe_selection
from msdn.train.models.registry import find_model, settings_from_json
from msdn.train.runs.run import Run, find_runs, open_run, open_run_cache

log = logging.getLogger(__name__)
_RESULT: dict[str, Kind] = {
    **dict.fromkeys((*COMPARED, "H_no_margin"), is_figure),
    "fingerprint": is_text,
    "map?": is_text,
    "settings": is_table,
    "margin": is_number,
    "training_seconds": is_duration,
    "parameters": whole(0),
    "checkpoint_digest": is_text,
}


@dataclass(frozen=True)
class Measured:
    """A finished run with its test figures in percent; None for what no image can tell."""

    run: Run
    figures: dict[str, float | None]


@dataclass(frozen=True)
class LeftOut:
    """A run's folder that cannot be compared, and why."""

    run: str
    reason: str


def collect_results(
    home: Home,
    given: Sequence[Path] = (),
    *,
    dataset: str | None = None,
    model: str | None = None,
    device: str = "auto",
    on_measure: Callable[[Run], None] | None = None,
) -> tuple[list[Measured], list[LeftOut]]:
    """Test figures of the given runs, else of all finished ones of the home, and what had to be left out.

    Args:
        home: where runs and features lie.
        given: the runs' folders, or their names in the home.
        dataset: compare runs of this dataset alone.
        model: compare runs of this model alone.
        device: where to compute figures that are not in a run's folder yet.
        on_measure: called with each run that has to be measured first.
    """
    runs, left_out = _open_given(home, given) if given else (find_runs(home.runs), [])
    measured = []
    for run in runs:
        if dataset not in (None, run.dataset) or model not in (None, run.settings.model):
            if given:
                wanted = " ".join(filter(None, (model, dataset and f"on {dataset}")))
                left_out.append(LeftOut(str(run.path), f"not a run of {wanted}"))
            continue
        try:
            measured.append(Measured(run, _figures_of(run, home, device, on_measure)))
        except MsdnError as error:
            left_out.append(LeftOut(str(run.path), str(error)))
    return measured, left_out


def kept_figures(run: Run) -> dict[str, float | None] | None:
    """The figures in a run's folder; None where there are none, or none that belong to this very run."""
    result = _read_kept(run)
    return result and {name: result[name] for name in COMPARED}


def kept_result(run: Run) -> dict[str, Any] | None:
    """Everything that measuring a run gave, from its folder; None where it would have to be measured again."""
    result = _read_kept(run) if run.finished else None
    return result and {
        **result,
        "run": str(run.path),
        "dataset": run.dataset,
        "model": run.settings.model,
        "seed": run.settings.seed,
        "epochs": run.settings.passes,
        "select": run.settings.select,
        "selection": describe_selection(run.settings, run.chosen),
        "chosen": run.chosen,
        "weights": run.manifest["weights"],
        "masked_images": run.manifest["masked_images"],
        "watch_test": run.manifest.get("watch_test"),
        "preset": run.manifest.get("preset"),
        "rule": run.manifest.get("rule"),
        "reconstruction": find_model(run.settings.model).reconstruction or None,
    }


def check_kept(run: Run) -> None:
    """Say where the results in a run's folder cannot be its own; for who is about to replace them."""
    _read_kept(run)


def _read_kept(run: Run) -> dict[str, Any] | None:
    try:
        result = read_sealed(run.results)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning(
            "%s: not used, it cannot be read (%s); measured again where it can be", run.results, error
        )
        return None
    reason = _mistrust(run, result)
    if reason:
        log.warning("%s: not used, %s", run.results, reason)
        return None
    return result


def own_margin(run: Run) -> float | None:
    """The margin that a run predicts with: chosen on validation classes, else the one it was trained with."""
    if run.settings.select != "val":
        return run.settings.margin
    return run.chosen.get("margin") if isinstance(run.chosen, dict) else None


def _open_given(home: Home, given: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    runs: dict[Path, Run] = {}
    left_out = []
    for path in given:
        try:
            run = open_run(home.runs, path)
            runs.setdefault(run.path.resolve(), run)
        except RunError as error:
            left_out.append(LeftOut(str(path), str(error).removeprefix(f"{path}: ")))
    return list(runs.values()), left_out


def _figures_of(
    run: Run, home: Home, device: str, on_measure: Callable[[Run], None] | None
) -> dict[str, float | None]:
    if not run.finished:
        raise RunError(f"not finished ({run.manifest['status']})")
    kept = kept_figures(run)
    if kept is not None:
        return kept
    with _open_features(home, run) as cache:
        from msdn.train.measure.evaluate import evaluate_run, keep_results

        if on_measure:
            on_measure(run)
        result = evaluate_run(run, cache, device=device)
    keep_results(run, result)
    return {name: result[name] for name in COMPARED}


def _open_features(home: Home, run: Run) -> FeatureCache:
    try:
        return open_run_cache(home, run)
    except MsdnError as error:
        raise RunError(f"not measured yet, because its features are not found: {error}") from error


def _mistrust(run: Run, result: dict[str, Any]) -> str | None:
    """Why figures in a run's folder are not this run's own; None where they are."""
    wrong = find_misfit(result, _RESULT)
    if wrong is not None:
        return f"not all of its figures are as they should be; the first wrong one is '{wrong}'"
    trained_on = run.manifest["cache"]["fingerprint"], run.map
    if (result["fingerprint"], result.get("map") or MAIN) != trained_on:
        return "it was measured on other features than the run was trained on"
    if result["checkpoint_digest"] != run.manifest.get("checkpoint"):
        return "it was measured with other weights than the run's"
    try:
        same = settings_from_json(result["settings"]) == run.settings
    except WrongUsageError:
        same = False
    if not same:
        return "it was measured with other settings than the run's"
    if result["margin"] != own_margin(run):
        return "it was measured with another margin than the run's"
    return None
