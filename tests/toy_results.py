"""Finished runs with test figures, made without training."""

from typing import Any

from msdn.cache import Home
from msdn.train.measure.evaluate import keep_results
from msdn.train.measure.selection import kept_tasks
from msdn.train.models.registry import find_model
from msdn.train.runs.run import Run, create_run

FIGURES = {"acc": 50.0, "U": 40.0, "S": 60.0, "H": 48.0, "AUSUC": 30.0}
CHOSEN = {
    "epochs": 4,
    "margin": 0.7,
    **{f"val_{name}": value for name, value in FIGURES.items()},
    "val_margin": 0.7,
    "val_temperature": 1.0,
}
BEST = {"epoch": 3, **{name: FIGURES[name] for name in ("U", "S", "H", "acc")}}


def make_run(home: Home, figures: dict[str, Any] | None = None, **options: Any) -> Run:
    """A finished run with the figures that an evaluation would have kept; `options` are settings and facts."""
    model = find_model(options.get("model", "msdn"))
    settings = model.default(**model.select(options))
    chosen = {"last": None, "val": CHOSEN, "test": dict.fromkeys(kept_tasks(settings), BEST)}
    facts = {
        "cache": {"path": "/nowhere/toy.h5", "fingerprint": options.get("fingerprint", "f1" * 32)},
        "weights": options.get("weights", "torchvision"),
        "masked_images": options.get("masked_images", 0),
        "counts_differ": options.get("counts_differ", False),
        "device": "cpu",
        "precision": "float32",
        "features": "auto",
        "groups": options.get("groups"),
        "watch_test": options.get("watch_test", False),
        "chosen": chosen[settings.select],
        "environment": {},
        "checkpoint": "c0" * 32,
    }
    run = create_run(home.runs, options.get("dataset", "toy"), settings, facts)
    run.update(
        status=options.get("status", "finished"), started=options.get("started", run.manifest["started"])
    )
    if figures is not None:
        keep(run, **figures)
    return run


def keep(run: Run, **changes: Any) -> None:
    """Write results as an evaluation of the run would, with changes."""
    own = {
        "H_no_margin": 30.0,
        "training_seconds": 1.5,
        "parameters": 7,
        "checkpoint_digest": run.manifest["checkpoint"],
        "fingerprint": run.manifest["cache"]["fingerprint"],
        "settings": run.settings.as_json(),
        "margin": CHOSEN["margin"] if run.settings.select == "val" else run.settings.margin,
    }
    keep_results(run, FIGURES | own | changes)
