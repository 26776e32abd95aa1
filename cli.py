"""The `msdn` command: finds each command's file when it is called, and turns errors into a sentence.

Neither this file nor a command file imports torch, so that help answers at once.
"""

import errno
import importlib
import sys
from typing import Any, NoReturn

import click

from msdn import __version__
from msdn.cache.errors import MsdnError, UnknownNameError, WrongUsageError
from msdn.machine import let_waiting_threads_sleep

COMMANDS: dict[str, Any] = {  # a place `module:command`, or a group: its one sentence and its own table
    "demo": "msdn.app.demo:demo",
    "data": (
        "Get datasets, check them, and see what is here.",
        {
            "download": "msdn.extract.downloads.command:download",
            "status": "msdn.app.status:status",
            "check": "msdn.extract.own.command:check",
            "vectors": "msdn.extract.vectors.command:vectors",
            "groups": "msdn.train.groups.command:groups",
        },
    ),
    "extract": "msdn.extract.pipeline.command:extract",
    "backbones": "msdn.extract.backbones.command:backbones",
    "train": "msdn.train.loop.command:train",
    "evaluate": "msdn.train.measure.evaluate_command:evaluate",
    "predict": "msdn.app.predict.command:predict",
    "explain": "msdn.app.explain.command:explain",
    "report": "msdn.app.report.command:report",
    "ablate": "msdn.train.studies.ablation:ablate",
    "sweep": "msdn.train.studies.sweep:sweep",
    "reproduce": "msdn.app.reproduce:reproduce",
    "compare": "msdn.train.studies.compare:compare",
    "presets": "msdn.train.models.presets_command:presets",
    "cache": (
        "Look into feature caches, check and annotate them, and exchange them with published formats.",
        {
            "info": "msdn.cache.command:info",
            "verify": "msdn.cache.command:verify",
            "annotate": "msdn.extract.exchange.command:annotate",
            "import": "msdn.extract.exchange.command:import_",
            "export": "msdn.cache.command:export",
        },
    ),
    "doctor": "msdn.app.doctor:doctor",
}
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; make room and repeat the command",
    errno.EDQUOT: "the disk quota is used up; make room and repeat the command",
    errno.EFBIG: "the file grew beyond what this system allows; choose another place",
    errno.EACCES: "permission denied; choose a place you may write to",
    errno.EPERM: "operation not permitted; choose a place you may write to",
    errno.EROFS: "the file system is read-only; choose a place you may write to",
}
MEMORY_ADVICE = {  # by the option that it needs
    "--batch-size": "a smaller --batch-size needs less",
    "--jobs": "fewer --jobs at once need less",
    "--device": "end other programs, or compute elsewhere with --device",
}
_COMMAND = "msdn.command"  # what was called, in the context's `meta`


class LazyGroup(click.Group):
    """Imports a command's file when that command is needed; commands keep their table's order."""

    def __init__(self, table: dict[str, Any] = COMMANDS, **settings: Any) -> None:
        """Offer the commands of `table`, written as `COMMANDS` is."""
        super().__init__(**settings)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order a user meets them."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file and return the command."""
        if cmd_name not in self._table:
            return None
        entry = self._table[cmd_name]
        if not isinstance(entry, str):
            sentence, table = entry
            return LazyGroup(table, name=cmd_name, help=sentence)
        module, _, name = entry.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Answer an unknown command with the known ones."""
        if args and not args[0].startswith("-") and args[0] not in self._table:
            raise click.UsageError(str(UnknownNameError("command", args[0], self._table)), ctx)
        found = super().resolve_command(ctx, args)
        ctx.meta[_COMMAND] = found[1]  # that of a group's command takes the group's place
        return found


class ErrorTranslator(LazyGroup):
    """The outermost group: what a user can mend ends as one sentence, not as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and give every error its sentence and exit code."""
        try:
            return super().invoke(ctx)
        except WrongUsageError as error:
            raise click.UsageError(str(error)) from error
        except MsdnError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            stop("Stopped. What was finished is kept.", 130)
        except OSError as error:
            raise click.ClickException(explain_os_error(error)) from error
        except MemoryError as error:
            raise click.ClickException(f"out of memory; {advise_on_memory(ctx)}") from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which must not be imported here
                raise
            raise click.ClickException(f"the GPU is out of memory; {advise_on_memory(ctx)}") from error


def advise_on_memory(ctx: click.Context) -> str:
    """What to do where memory runs out: what the command has an option for."""
    command = ctx.meta.get(_COMMAND)
    options = {name for one in command.get_params(ctx) for name in one.opts} if command else set()
    words = [advice for option, advice in MEMORY_ADVICE.items() if option in options]
    return words[0] if words else "end other programs and repeat the command"


def explain_os_error(error: OSError) -> str:
    """One sentence: where, what, and what to do where that is known."""
    where = f"{error.filename}: " if error.filename else ""
    what = DISK_ERRORS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    return f"{where}{what}"


def stop(sentence: str, code: int) -> NoReturn:
    """End the program with a sentence on stderr."""
    click.echo(sentence, err=True)
    sys.exit(code)


@click.command(cls=ErrorTranslator, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="msdn")
def main() -> None:
    """Zero-shot learning from attributes: extract region features once, train and evaluate in minutes.

    \b
    First time here?          msdn demo
    On a benchmark:           msdn extract --dataset cub
                              msdn train --dataset cub
                              msdn evaluate --gzsl
    """
    if sys.platform == "win32":
        stop("msdn runs on Linux and macOS; on Windows, use it inside WSL.", 1)
    let_waiting_threads_sleep()
