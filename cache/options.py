"""Click options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from msdn.cache.home import Home

DEFAULT_HOME = "msdn-home"


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--home`, passed on as a `Home`."""
    return click.option(
        "--home",
        envvar="MSDN_HOME",
        default=DEFAULT_HOME,
        show_default=f"$MSDN_HOME, else ./{DEFAULT_HOME}",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _context, _parameter, root: Home(root),
        help="Folder that holds data/, features/, runs/ and studies/.",
    )(command)
