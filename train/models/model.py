"""What a model says of itself: its name, its settings, and how it is built. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msdn.train.errors import SettingsError
from msdn.train.loop.settings import RunSettings, fields_of, option_name

if TYPE_CHECKING:
    from msdn.train.measure.published_weights import Published, PublishedFile
    from msdn.train.models.parts.base import ZslModel
    from msdn.train.models.parts.problem import Problem


@dataclass(frozen=True)
class Model:
    """A model's record, under the name `MODEL` in its folder's or file's module.

    Attributes:
        name: what `--model` calls it.
        summary: one line of help.
        settings: its settings: a frozen dataclass that adds its own fields to those of a training.
        build: called with the `Problem` and the settings, returns a `ZslModel`; or where that function is, as
            `module:function`, so that naming the model loads no torch.
        takes_groups: whether it takes the attributes in groups.
        narrows: whether its network takes regions in bfloat16, and does its large products in the type of its regions;
            then a training may be computed with `--precision bfloat16`.
        attends: whether its network has `attention` and `attribute_scores`: `msdn explain` shows where it looks.
        reconstruction: what to say wherever its figures are shown, if its method's text is not available.
        published_weights: reads weights that its authors published (see `measure/published_weights.py`): called with
            the `PublishedFile` and the settings, returns `Published`; or where that function is.
    """

    name: str
    summary: str
    settings: type[RunSettings]
    build: "str | Callable[[Problem, Any], ZslModel]"
    takes_groups: bool = False
    narrows: bool = False
    attends: bool = False
    reconstruction: str = ""
    published_weights: "str | Callable[[PublishedFile, Any], Published]" = ""

    def select(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of settings that this model has."""
        own = fields_of(self.settings)
        return {name: value for name, value in values.items() if name in own}

    def predicting(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of those of its settings that no weight depends on."""
        own = [name for name, one in fields_of(self.settings).items() if one.metadata.get("predicts_only")]
        return {name: values[name] for name in own if name in values}

    def default(self, **values: Any) -> RunSettings:
        """The model's settings at their defaults, but for `values`."""
        return self.settings(**{**values, "model": self.name})

    def network(self, problem: "Problem", settings: RunSettings) -> "ZslModel":
        """Build the model, with weights drawn from torch's global generator."""
        return _find(self.build)(problem, settings)

    def read_published(self, file: "PublishedFile", settings: RunSettings) -> "Published":
        """Published weights of this model."""
        return _find(self.published_weights)(file, settings)

    def check_effect(self, settings: RunSettings, given: Iterable[str]) -> None:
        """Refuse settings typed by a user that change nothing, for what the others are."""
        typed = set(given)
        for name, reason in settings.without_effect():
            if name in typed:
                option = option_name(fields_of(self.settings)[name])
                raise SettingsError(f"{option} changes nothing: {reason}; leave it out")


def _find(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """A function, or the one at `module:function`."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)
