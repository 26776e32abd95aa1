"""How the time of a training step grows with images, classes, attributes and the batch, one of them at a time.

Around CUB's size with random features, as `train_step.py`. Every size is measured in every round; medians. Of images,
classes and attributes the last column is the exponent from the size before: 1 is growth in proportion.

    python benchmarks/train_scaling.py [--model msdn] [--rounds 3] [--plot FILE.svg]
"""

import argparse
import statistics
from dataclasses import replace
from math import log
from pathlib import Path

import torch
from made_problems import Size, make, make_trainer, timed

from msdn.machine import choose_device, keep_freed_memory, keep_threads
from msdn.train.loop.training import choose_precision

AXES = {
    "images": (500, 1000, 2000, 4000),
    "classes": (50, 200, 1000, 5000),
    "attributes": (39, 78, 156, 312, 624),
    "batch": (1, 5, 25, 50, 100, 200, 400),
}
WARM_UP, STEPS = 4, 5
Times = dict[str, dict[int, float]]  # seconds a step, by axis and value


def main() -> None:
    """Measure, print, and draw where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="msdn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--plot", type=Path, help="a new .svg or .png file")
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    precision = choose_precision(options.precision, options.model, device)
    with keep_threads():
        print(f"{options.model}, products in {precision}, {device}, {torch.get_num_threads()} threads")
        times: Times = {}
        for axis, values in AXES.items():
            times[axis] = measure(axis, values, options.model, device, precision, options.rounds)
            report(axis, times[axis])
    if options.plot:
        draw(times, options.plot, f"{options.model}, {precision}, {device}")


def resized(axis: str, value: int) -> Size:
    """CUB's size with another number of something; a quarter of the classes is unseen."""
    if axis == "classes":
        return Size(seen=value - value // 4, unseen=value // 4)
    return replace(Size(), **{axis: value})


def measure(
    axis: str, values: tuple[int, ...], model: str, device: torch.device, precision: str, rounds: int
) -> dict[int, float]:
    """Median seconds of a step at every value."""
    taken: dict[int, list[float]] = {value: [] for value in values}
    for _ in range(rounds):
        for value in values:
            trainer = make_trainer(make(resized(axis, value)), model, device, precision)
            for number in range(WARM_UP + STEPS):
                seconds = timed(lambda trainer=trainer: trainer._take_steps(1), device)
                if number >= WARM_UP:
                    taken[value].append(seconds)
    return {value: statistics.median(all_) for value, all_ in taken.items()}


def report(axis: str, times: dict[int, float]) -> None:
    """Print one axis."""
    print(
        f"\n{axis:>10} {'ms a step':>10} " + (f"{'images/s':>10}" if axis == "batch" else f"{'exponent':>10}")
    )
    before: tuple[int, float] | None = None
    for value, seconds in times.items():
        if axis == "batch":
            shown = f"{value / seconds:10.0f}"
        else:
            shown = f"{log(seconds / before[1]) / log(value / before[0]):10.2f}" if before else ""
        print(f"{value:>10} {1000 * seconds:10.1f} {shown}", flush=True)
        before = value, seconds


def draw(times: Times, path: Path, title: str) -> None:
    """Four charts: seconds a step, or images a second, over what was changed."""
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, NullLocator

    figure, charts = pyplot.subplots(1, len(times), figsize=(3.2 * len(times), 3), layout="constrained")
    for chart, (axis, found) in zip(charts, times.items(), strict=True):
        values = list(found)
        heights = [value / found[value] if axis == "batch" else 1000 * found[value] for value in values]
        chart.loglog(values, heights, "o-", color="tab:blue")
        if axis != "batch":
            chart.loglog(values, [heights[-1] * value / values[-1] for value in values], ":", color="grey")
            chart.set_ylim(bottom=min(heights) / 3)
        for side, shown in ((chart.xaxis, values), (chart.yaxis, _round_steps(heights))):
            side.set_major_locator(FixedLocator(shown))
            side.set_major_formatter("{x:g}")
            side.set_minor_locator(NullLocator())
        chart.tick_params(axis="x", labelrotation=45)
        chart.set_xlabel(axis)
        chart.set_ylabel("images/s" if axis == "batch" else "ms a step")
        chart.grid(visible=True, alpha=0.3)
    figure.suptitle(f"{title}; dotted: in proportion", fontsize=9)
    figure.savefig(path)


def _round_steps(heights: list[float]) -> list[float]:
    """1, 2, 5, 10 ... from below the lowest to the highest."""
    steps = [digit * 10.0**power for power in range(5) for digit in (1, 2, 5)]
    return [step for step in steps if min(heights) / 3 <= step <= max(heights) * 1.2]


if __name__ == "__main__":
    main()
