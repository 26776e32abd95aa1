"""The `msdn` command: finds each command's file when it is called, and turns errors into a sentence.

What all commands have in common is added here: options, completion, the config file. Neither this file nor a command
file imports torch, so that help answers at once.
"""

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from msdn import __version__, terminal
from msdn.cache.errors import MsdnError, UnknownNameError, WrongUsageError, explain_os_error
from msdn.machine import let_waiting_threads_sleep
from msdn.signals import exit_code, heard_signals

COMMANDS: dict[
    str, Any
] = {  # a place `module:command`, or a group: its sentence, its table, what it does by itself
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
        None,
    ),
    "extract": "msdn.extract.pipeline.command:extract",
    "backbones": "msdn.extract.backbones.command:backbones",
    "train": "msdn.train.loop.command:train",
    "evaluate": "msdn.train.measure.evaluate_command:evaluate",
    "predict": "msdn.app.predict.command:predict",
    "explain": "msdn.app.explain.command:explain",
    "report": "msdn.app.report.command:report",
    "runs": (
        "List the trained runs (without a subcommand); show, name or delete one.",
        {
            "list": "msdn.train.runs.command:list_",
            "show": "msdn.train.runs.command:show_",
            "name": "msdn.train.runs.command:name",
            "delete": "msdn.train.runs.command:delete",
        },
        "list",
    ),
    "ablate": "msdn.train.studies.ablation:ablate",
    "sweep": "msdn.train.studies.sweep:sweep",
    "reproduce": "msdn.app.reproduce:reproduce",
    "compare": "msdn.train.studies.compare:compare",
    "presets": "msdn.train.models.presets_command:presets",
    "cache": (
        "Show, check and annotate feature caches; convert them to and from published formats.",
        {
            "info": "msdn.cache.command:info",
            "verify": "msdn.cache.command:verify",
            "merge": "msdn.cache.command:merge",
            "annotate": "msdn.extract.exchange.command:annotate",
            "import": "msdn.extract.exchange.command:import_",
            "export": "msdn.cache.command:export",
        },
        None,
    ),
    "doctor": "msdn.app.doctor:doctor",
}
MEMORY_ADVICE = {  # by the option that it needs
    "--batch-size": "a smaller --batch-size needs less",
    "--jobs": "fewer --jobs at once need less",
    "--device": "stop other programs, or choose another --device",
}
_COMPLETES = "_MSDN_COMPLETE"  # a shell that asks for completions sets it
# Options of nearly all commands, typed before one by mistake.
EVERY_COMMANDS = ("--home", "--config", "--json", "-q", "--quiet", "-v", "--verbose", "--dataset")
_COMMAND = "msdn.command"  # what was called, in the context's `meta`


class LazyGroup(click.Group):
    """Imports a command's file when that command is needed; commands keep their table's order."""

    def __init__(self, table: dict[str, Any] = COMMANDS, usual: str | None = None, **settings: Any) -> None:
        """Offer the commands of `table`, written as `COMMANDS` is; `usual` is called where none is named."""
        super().__init__(**settings)
        self._table = table
        self.usual = usual

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the command that is meant where none is named."""
        _refuse_early_option(ctx, args)
        names_none = not args or (args[0].startswith("-") and args[0] not in ("-h", "--help"))
        if self.usual and names_none and not ctx.resilient_parsing:
            args = [self.usual, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its whole first sentence."""
        found = [(name, self.get_command(ctx, name)) for name in self._table]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(1000)) for name, one in found if one])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order a user meets them."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file and return the command."""
        if cmd_name not in self._table:
            return None
        entry = self._table[cmd_name]
        if not isinstance(entry, str):
            sentence, table, usual = entry
            return LazyGroup(table, usual, name=cmd_name, help=sentence)
        return load_command(entry)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Answer an unknown command with the known ones, and read the config file for a known one."""
        if args and not args[0].startswith("-") and args[0] not in self._table:
            if ctx.resilient_parsing:  # completion of what cannot be right
                return None, None, args
            raise click.UsageError(str(UnknownNameError("command", args[0], self._table)), ctx)
        from msdn.app.config import find_config, read_config

        found = super().resolve_command(ctx, args)
        ctx.meta[_COMMAND] = found[1]  # that of a group's command takes the group's place
        if not isinstance(found[1], click.Group) and not ctx.resilient_parsing:
            name, command, rest = found
            file = find_config(rest)
            if file is not None and name and command:
                values = read_config(file, (name, command, rest), COMMANDS, load_command, ctx)
                ctx.default_map = {name: values}
        return found


def _refuse_early_option(ctx: click.Context, args: list[str]) -> None:
    """Say where an option belongs that stands before the command; a group that does something by itself takes it."""
    group, option = ctx.command, args[0].partition("=")[0] if args else ""
    has_usual = isinstance(group, LazyGroup) and group.usual
    if option in EVERY_COMMANDS and not has_usual and not ctx.resilient_parsing:
        raise click.UsageError(f"Put {option} after the command: {ctx.command_path} COMMAND {option} …", ctx)


def load_command(place: str) -> click.Command:
    """Import the command of a place, and give it what all commands have."""
    from msdn.app.completion import complete_values

    module, _, name = place.partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    if not any(one.name == "config" for one in command.params):
        command.params += terminal.common_options()
        complete_values(command)
    return command


class ErrorTranslator(LazyGroup):
    """The outermost group: what a user can fix ends as one sentence, not as a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run a command line; its end is an exit code, and an error is shown."""
        if not standalone_mode:
            return self._click_main(*args, **settings)
        terminal.take_any_letter()
        if _COMPLETES in os.environ:
            from msdn.app.completion import register_shells

            register_shells()
        try:
            with heard_signals():
                code = self._run(*args, **settings)
                sys.stdout.flush()
        except BrokenPipeError:
            terminal.close_pipe()
            code = 141  # as the shell reports a program whose reader has gone: `msdn presets | head`
        sys.exit(code)

    def _click_main(self, *args: Any, **settings: Any) -> Any:
        run: Any = super().main
        return run(*args, **{**settings, "standalone_mode": False})

    def _run(self, *args: Any, **settings: Any) -> Any:
        try:
            code = self._click_main(*args, **settings)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            terminal.show_error(error.format_message(), _usage_of(error))
            return error.exit_code
        except click.Abort:
            terminal.warn("Stopped.")
            return exit_code()
        except SystemExit as end:
            return end.code
        return code if isinstance(code, int) else 0

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and give every error its sentence and exit code."""
        try:
            with _shown_log():
                return super().invoke(ctx)
        except WrongUsageError as error:
            raise click.UsageError(str(error)) from error
        except MsdnError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            stop("Stopped. Finished work is kept.", exit_code())
        except BrokenPipeError:  # click would end this with its own code
            terminal.close_pipe()
            sys.exit(141)
        except OSError as error:
            raise click.ClickException(explain_os_error(error)) from error
        except MemoryError as error:
            raise click.ClickException(f"out of memory; {advise_on_memory(ctx)}") from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which must not be imported here
                raise
            raise click.ClickException(f"the GPU is out of memory; {advise_on_memory(ctx)}") from error


def _usage_of(error: click.ClickException) -> str:
    """The lines above the message of a wrong usage, as click writes them."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    return f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} {error.ctx.help_option_names[-1]}' for help.\n"


@contextmanager
def _shown_log() -> Iterator[None]:
    """Show what the library logs for as long as a command runs."""
    log, lines = logging.getLogger("msdn"), terminal.LogLines()
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)


def advise_on_memory(ctx: click.Context) -> str:
    """What to do where memory runs out: what the command has an option for."""
    command = ctx.meta.get(_COMMAND)
    options = {name for one in command.get_params(ctx) for name in one.opts} if command else set()
    words = [advice for option, advice in MEMORY_ADVICE.items() if option in options]
    return words[0] if words else "stop other programs and repeat the command"


def stop(sentence: str, code: int) -> NoReturn:
    """End the program with a sentence on stderr."""
    terminal.warn(sentence)
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
