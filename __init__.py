"""Attribute-based zero-shot learning: region features extracted once, models trained from one cache.

    import msdn

    msdn.extract("plumage", weights="random")
    run = msdn.train("plumage")
    print(msdn.evaluate(run)["H"])

Importing it loads nothing but this file; NumPy and torch come with the first function that needs them.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msdn.app.library import evaluate, extract, load_run, merge, open_cache, predict, train
    from msdn.app.predict.predictor import Prediction
    from msdn.cache import FeatureCache, MsdnError
    from msdn.extract.pipeline.outcome import Extraction
    from msdn.train.runs.run import Run

__version__ = "0.1.0"
__all__ = [
    "Extraction",
    "FeatureCache",
    "MsdnError",
    "Prediction",
    "Run",
    "evaluate",
    "extract",
    "load_run",
    "merge",
    "open_cache",
    "predict",
    "train",
]
_PLACES = {
    "Extraction": "msdn.extract.pipeline.outcome",
    "FeatureCache": "msdn.cache",
    "MsdnError": "msdn.cache",
    "Prediction": "msdn.app.predict.predictor",
    "Run": "msdn.train.runs.run",
}
_LIBRARY = "msdn.app.library"
_STAGES = ("extract", "train")  # packages, and functions as well


class _Stage(ModuleType):
    """A package that can be called: `msdn.train(...)` beside `from msdn.train.runs import ...`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    def __reduce__(self) -> Any:
        """Pickled by name, as modules are by those who send functions to other machines (Ray, Spark)."""
        return importlib.import_module, (self.__name__,)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module(_LIBRARY), self.__name__.rpartition(".")[2])


for _stage in _STAGES:
    importlib.import_module(f"{__name__}.{_stage}")
    sys.modules[f"{__name__}.{_stage}"].__class__ = _Stage


if not TYPE_CHECKING:  # a checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(importlib.import_module(_PLACES.get(name, _LIBRARY)), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
