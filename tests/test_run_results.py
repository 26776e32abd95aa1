"""Figures in a run's folder are used where they are this very run's own, and nowhere else."""

from typing import Any

import pytest
from toy_results import FIGURES, keep, make_run

from msdn.cache import Home
from msdn.train.models.registry import settings_of
from msdn.train.runs.results import kept_figures


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": "other"}, "measured on other features"),
        ({"settings": settings_of(seed=1).as_json()}, "measured with other settings"),
        ({"settings": settings_of(alpha=(0.5, 0.5)).as_json()}, "measured with other settings"),
        ({"settings": {"speed": 3}}, "measured with other settings"),
        ({"settings": None}, "wrong one is 'settings'"),
        ({"checkpoint_digest": "c1" * 32}, "measured with other weights"),
        ({"margin": 0.5}, "measured with another margin"),
        ({"H": float("nan")}, "not all of its figures"),
        ({"H": 101}, "not all of its figures"),
        ({"acc": "50"}, "not all of its figures"),
        ({"U": True}, "not all of its figures"),
        ({"U": 10**200}, "not all of its figures"),
        ({"S": float("inf")}, "not all of its figures"),
    ],
)
def test_results_that_are_not_the_runs_own_are_not_used(
    home: Home, changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(home)
    keep(run, **changes)
    assert kept_figures(run) is None
    assert f"{run.results}: not used" in caplog.text and reason in caplog.text


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"H": 3}', "\udcff", "[" * 100_000, '{"H": 1' + "0" * 400 + "}", r'"\ud800"']
)
def test_damaged_results_are_not_used(home: Home, content: str, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(home, {})
    assert kept_figures(run) == FIGURES
    run.results.write_bytes(content.encode(errors="surrogateescape"))
    assert kept_figures(run) is None
    assert f"{run.results}: not used" in caplog.text


def test_a_setting_younger_than_the_results_is_no_difference(home: Home) -> None:
    run = make_run(home)
    settings = run.settings.as_json()
    del settings["momentum"]
    keep(run, settings=settings)
    assert kept_figures(run) == FIGURES


def test_the_margin_chosen_on_validation_classes_is_the_runs_own(home: Home) -> None:
    run = make_run(home, {}, select="val")
    assert kept_figures(run) == FIGURES
    keep(run, margin=1.0)
    assert kept_figures(run) is None
