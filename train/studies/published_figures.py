"""The papers' own figures as data, to stand beside ours, each with its source. Data only: no torch."""

from dataclasses import dataclass

TABLE_1 = "MSDN (CVPR 2022), Table 1"
TABLE_2 = "MSDN (CVPR 2022), Table 2"
PLUS = "MSDN++ (2026), its public summary"
PLUS_FLO = "MSDN++ (2026), a second-hand note and its public summary"
ON_TEST = "chosen on the test set"  # as the published training code does
NOT_KNOWN = "how they were chosen is not known"
PUBLISHED_IMAGE_SIZES = {"msdn": 448, "dazle": 224}  # that the authors' scripts read, in pixels
PAPER_FIGURES = ("acc", "U", "S", "H")  # those that papers state


@dataclass(frozen=True)
class Published:
    """Figures in percent as a paper states them; None for what it, or what we know of it, leaves out."""

    acc: float | None
    U: float | None
    S: float | None
    H: float | None
    source: str
    selection: str


def _ablation(acc: float, h: float) -> Published:
    return Published(acc, None, None, h, TABLE_2, ON_TEST)


_ABLATION = {
    "cub": {
        "baseline": _ablation(57.4, 49.1),
        "va": _ablation(66.0, 55.4),
        "av": _ablation(73.4, 65.4),
        "va-distill": _ablation(67.9, 60.8),
        "av-distill": _ablation(75.2, 67.5),
        "divergence": _ablation(74.3, 67.0),
        "distance": _ablation(74.4, 67.6),
        "full": _ablation(76.1, 68.1),
    },
    "sun": {
        "baseline": _ablation(54.8, 30.5),
        "va": _ablation(59.2, 33.8),
        "av": _ablation(63.8, 38.5),
        "va-distill": _ablation(62.1, 38.6),
        "av-distill": _ablation(63.0, 38.7),
        "divergence": _ablation(64.7, 39.4),
        "distance": _ablation(64.9, 40.8),
        "full": _ablation(65.8, 41.3),
    },
}
_FIGURES = {
    "msdn": {
        "cub": Published(76.1, 68.7, 67.5, 68.1, TABLE_1, ON_TEST),
        "sun": Published(65.8, 52.2, 34.2, 41.3, TABLE_1, ON_TEST),
        "awa2": Published(70.1, 62.0, 74.5, 67.7, TABLE_1, ON_TEST),
    },
    "msdn++": {
        "cub": Published(78.5, None, None, 70.6, PLUS, NOT_KNOWN),
        "sun": Published(67.5, None, None, 42.1, PLUS, NOT_KNOWN),
        "awa2": Published(73.4, None, None, 72.5, PLUS, NOT_KNOWN),
        "flo": Published(None, 69.2, 80.7, 74.5, PLUS_FLO, NOT_KNOWN),
    },
    "dazle": {
        "cub": Published(66.0, 56.7, 59.6, 58.1, TABLE_1, NOT_KNOWN),
        "sun": Published(59.4, 52.3, 24.3, 33.2, TABLE_1, NOT_KNOWN),
        "awa2": Published(67.9, 60.3, 75.7, 67.1, TABLE_1, NOT_KNOWN),
    },
    "baseline": {dataset: rows["baseline"] for dataset, rows in _ABLATION.items()},
}


def published_figures(model: str, dataset: str) -> Published | None:
    """What a paper states for a model on a dataset; None where nothing is known."""
    return _FIGURES.get(model, {}).get(dataset)


def published_ablation(dataset: str) -> dict[str, Published]:
    """The rows of MSDN's Table 2 by the ablation's names for them; empty for a dataset that it leaves out."""
    return dict(_ABLATION.get(dataset, {}))
