"""The papers' figures agree with each other, and name their source."""

import pytest

from msdn.train.models.published import published_ablation, published_figures
from msdn.train.models.registry import model_names

DATASETS = ("cub", "sun", "awa2", "flo", "plumage")
KNOWN = [
    (model, dataset, found)
    for model in model_names()
    for dataset in DATASETS
    if (found := published_figures(model, dataset))
]


def test_what_is_known_is_exactly_this() -> None:
    benchmarks = ("cub", "sun", "awa2")
    assert {(model, dataset) for model, dataset, _ in KNOWN} == {
        *(("msdn", dataset) for dataset in benchmarks),
        *(("msdn++", dataset) for dataset in (*benchmarks, "flo")),
        *(("dazle", dataset) for dataset in benchmarks),
        *(("baseline", dataset) for dataset in ("cub", "sun")),
    }


@pytest.mark.parametrize(("model", "dataset", "found"), KNOWN)
def test_the_harmonic_mean_is_that_of_u_and_s(model: str, dataset: str, found) -> None:
    assert found.source and found.selection and found.H
    if found.U is not None:
        harmonic_mean = 2 * found.U * found.S / (found.U + found.S)
        assert harmonic_mean == pytest.approx(found.H, abs=0.07)


@pytest.mark.parametrize("dataset", ["cub", "sun"])
def test_the_ablation_goes_from_the_baseline_to_the_published_model(dataset: str) -> None:
    rows = published_ablation(dataset)
    assert list(rows) == [
        *("baseline", "va", "av", "va-distill", "av-distill", "divergence", "distance", "full"),
    ]
    full = published_figures("msdn", dataset)
    assert full and (rows["full"].acc, rows["full"].H) == (full.acc, full.H)
    assert published_figures("baseline", dataset) == rows["baseline"]
    gains = {"cub": (18.7, 19.0), "sun": (11.0, 10.8)}[dataset]  # as the paper's text has them
    full, baseline = rows["full"], rows["baseline"]
    assert (full.acc - baseline.acc, full.H - baseline.H) == pytest.approx(gains)


def test_other_datasets_have_no_ablation() -> None:
    assert published_ablation("awa2") == published_ablation("mine") == {}
    assert published_figures("msdn", "mine") is None


def test_only_figures_known_to_be_chosen_on_the_test_set_are_said_to_be() -> None:
    said = {model for model, _, found in KNOWN if found.selection == "chosen on the test set"}
    assert said == {"msdn", "baseline"}
