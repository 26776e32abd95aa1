"""A table for a paper: LaTeX's tabular with the rules of the package booktabs."""

import re
from collections.abc import Iterable, Sequence

from msdn.terminal import escape
from msdn.train.measure.show import Cell, Table, best_means, percent, show_cell
from msdn.train.measure.summary import Spread

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "→": r"$\to$",
    "±": r"$\pm$",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def latex(tables: Sequence[Table]) -> str:
    r"""The tables one after the other, what is said of them as comments; they need `\usepackage{booktabs}`."""
    return "\n".join(_tabular(table) for table in tables)


def _tabular(table: Table) -> str:
    best = best_means(table)
    kinds = "".join("l" if name in table.words else "r" for name in table.columns)
    lines = [f"% {_one_line(line)}" for line in table.above if line]
    lines += [
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _row(map(escape_latex, table.columns)),
        r"\midrule",
    ]
    for row in table.rows:
        lines.append(_row(_cell(cell, _is_best(cell, best.get(n))) for n, cell in enumerate(row)))
    if table.foot:
        lines += [r"\midrule", *(_row(_cell(cell) for cell in row) for row in table.foot)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {_one_line(line)}" for line in table.below if line)]) + "\n"


def escape_latex(text: str) -> str:
    """A text that LaTeX prints as it is typed."""
    return re.sub(r".", lambda found: _SPECIAL.get(found[0], found[0]), _one_line(text))


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell, is_best: bool = False) -> str:
    if isinstance(cell, Spread):
        spread = "" if cell.std is None or cell.mean is None else rf" $\pm$ {cell.std:.1f}"
        mean = "--" if cell.mean is None else percent(cell.mean)
        return (rf"\textbf{{{mean}}}" if is_best else mean) + spread
    return escape_latex(show_cell(cell))


def _is_best(cell: Cell, best: float | None) -> bool:
    return best is not None and isinstance(cell, Spread) and cell.mean == best


def _one_line(text: str) -> str:
    """Control characters written out, so that no comment ends early."""
    return escape(text.replace("\u2028", " ").replace("\u2029", " "))
