"""Puts a report together: sections in the order of their questions, the page's file, and charts as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msdn import __version__
from msdn.app.report import classes, curves, inside, overview, sweeps
from msdn.app.report.charts import Chart, require_matplotlib
from msdn.app.report.page import Section, page, write_page
from msdn.app.report.subjects import Subject, open_subjects
from msdn.cache import Home
from msdn.cache.files import check_folder, make_folder

FILE = "report.html"


@dataclass(frozen=True)
class Report:
    """What was written: the page, and the charts' own files; and why some of it could not be, a reason for each run."""

    page: Path
    pictures: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()


def write_report(
    home: Home,
    runs: Sequence[Path],
    *,
    out: Path | None = None,
    png: Path | None = None,
    cache: Path | None = None,
    backbone: str | None = None,
    device: str = "auto",
) -> Report:
    """Write the report of finished runs.

    Args:
        home: where runs, features, images and studies lie.
        runs: the runs' folders, or their names in the home.
        out: the page's file; None means `report.html` in the run's folder, or of several runs in the home.
        png: a folder for the charts as PNG.
        cache: the features, instead of those that the runs were trained on as they are found.
        backbone: the backbone's file, where the features come from one of the user's own.
        device: where to compute.
    """
    require_matplotlib()
    if out is not None:
        check_folder(out, "--out")
    with open_subjects(home, runs, device, cache) as subjects:
        sections = sections_of(subjects, home, device, backbone)
        default = subjects[0].run.path if len(subjects) == 1 else home.root
        path = out or default / FILE
        write_page(page(*title_of(subjects), sections, f"Made by msdn {__version__}: msdn report"), path)
        pictures: list[Path] = []
        if png is not None:
            make_folder(png)
            charts = [part for one in sections for part in one.parts if isinstance(part, Chart)]
            pictures = [chart.write_png(png) for chart in charts]
        missing = tuple(f"{one.label}: {one.missing}" for one in subjects if one.missing)
    return Report(path, tuple(pictures), missing)


def sections_of(subjects: Sequence[Subject], home: Home, device: str, backbone: str | None) -> list[Section]:
    """All sections; that of sweeps only where some were made."""
    found = [
        Section("summary", "Summary", "Summary", overview.summary(subjects)),
        Section("curve", "Seen–unseen", "Seen against unseen", curves.seen_unseen(subjects)),
        Section("training", "Training", "Training", curves.training(subjects)),
        Section("classes", "Classes", "Accuracy by class", classes.by_class(subjects)),
        Section("confusion", "Confusion", "Confusion of unseen classes", classes.confusion(subjects)),
        Section("confidence", "Confidence", "Confidence", curves.confidence(subjects)),
        Section("pictures", "t-SNE", "t-SNE: how the model sees the images", inside.pictures(subjects)),
        Section(
            "attention",
            "Attention",
            "Attention: where the model looks",
            inside.attention(subjects, home, device, backbone),
        ),
        Section("sweeps", "Sweeps", "Sweeps", sweeps.sweeps(subjects, home)),
        Section("protocol", "Protocol", "Protocol and provenance", overview.protocol(subjects)),
    ]
    return [one for one in found if one.parts or one.name != "sweeps"]


def title_of(subjects: Sequence[Subject]) -> tuple[str, str]:
    """The page's title, and the line below it."""
    datasets = " and ".join(dict.fromkeys(one.run.dataset for one in subjects))
    if len(subjects) == 1:
        return f"{subjects[0].run.settings.model} on {datasets}", subjects[0].run.path.name
    return f"{len(subjects)} runs on {datasets}", ", ".join(one.run.path.name for one in subjects)
