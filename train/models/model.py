"""What a model says of itself: its name, its settings, and how it is built. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msdn.train.errors import SettingsError
from msdn.train.loop.settings import RunSettings, fields_of, option_name

if TYPE_CHECKING:
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
        reconstruction: what to say wherever its figures are shown, if its method's text is not to be had.
    """

    name: str
    summary: str
    settings: type[RunSettings]
    build: "str | Callable[[Problem, Any], ZslModel]"
    takes_groups: bool = False
    reconstruction: str = ""

    def select(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of settings that this model has."""
        own = fields_of(self.settings)
        return {name: value for name, value in values.items() if name in own}

    def default(self, **values: Any) -> RunSettings:
        """The model's settings at their defaults, but for `values`."""
        return self.settings(**{**values, "model": self.name})

    def network(self, problem: "Problem", settings: RunSettings) -> "ZslModel":
        """Build the model, with weights drawn from torch's global generator."""
        build = self.build
        if isinstance(build, str):
            module, _, function = build.partition(":")
            build = getattr(import_module(module), function)
        return build(problem, settings)  # type: ignore[no-any-return, operator]

    def check_effect(self, settings: RunSettings, given: Iterable[str]) -> None:
        """Refuse settings typed by a user that change nothing, for what the others are."""
        typed = set(given)
        for name, reason in settings.without_effect():
            if name in typed:
                option = option_name(fields_of(self.settings)[name])
                raise SettingsError(f"{option} changes nothing: {reason}; leave it out")
