"""`msdn doctor`: whether all that is needed is here and works; the exit code says it too."""

import click

from msdn.cache.home import Home, home_option


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@home_option
@click.pass_context
def doctor(context: click.Context, home: Home, as_json: bool) -> None:
    """Examine this machine and the home: each line is ok, todo or problem, and what to do.

    The exit code is 1 if there is any problem.
    """
    import json
    from dataclasses import asdict

    from msdn.app.doctor import examine

    findings = []
    for finding in examine(home):
        findings.append(finding)
        if not as_json:
            advice = f": {finding.advice}" if finding.advice else ""
            click.echo(f"{finding.mark:<7}  {finding.what}{advice}")
    is_well = all(finding.mark != "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": is_well, "findings": list(map(asdict, findings))}, indent=2))
    if not is_well:
        context.exit(1)
