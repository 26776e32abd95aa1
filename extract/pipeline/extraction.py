"""One whole extraction: from a dataset's name to a finished cache."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msdn.cache.annotations import name_differences
from msdn.cache.files import FileLock
from msdn.cache.header import Header, read_header, refuse_foreign_file
from msdn.cache.home import Home, name_cache
from msdn.cache.layout import DONE, MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.reader import check_complete
from msdn.cache.structure import create_structure
from msdn.extract.backbones.calibration import (
    calibrate,
    read_calibration_batches,
    read_statistics,
    restore_statistics,
)
from msdn.extract.backbones.resnet import CHANNELS, STRIDE, Backbone, build_trunk
from msdn.extract.backbones.weights import Weights, load_weights
from msdn.extract.datasets.registry import open_dataset
from msdn.extract.datasets.spec import UNDATED, Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.blocks import default_workers
from msdn.extract.pipeline.filling import Progress, fill_cache
from msdn.extract.pipeline.presence import require_images
from msdn.extract.pipeline.recipe import check_recipe, check_request, write_recipe
from msdn.extract.pipeline.settings import DEFAULT_BLOCK_ROWS, ExtractSettings
from msdn.machine import choose_device


@dataclass(frozen=True)
class Extraction:
    """What an extraction left: the cache, what it cost, and the images it masked."""

    path: Path
    progress: Progress
    masked: dict[str, str]
    weights_kind: str
    was_complete: bool = False


@dataclass(frozen=True)
class Watcher:
    """What to call as an extraction goes on; silent by default."""

    on_stage: Callable[[str], None] = lambda _text: None
    on_drawing: Callable[[int, int], None] = lambda _done, _total: None
    on_progress: Callable[[Progress], None] = lambda _progress: None


def extract(settings: ExtractSettings, home: Home, watcher: Watcher = Watcher()) -> Extraction:
    """Extract a dataset's features, going on where an earlier, interrupted run stopped."""
    device = choose_device(settings.device)
    dataset = open_dataset(settings.dataset, home, watcher.on_drawing)
    weights = load_weights(settings.weights, home)
    name = name_cache(dataset.annotations.dataset, settings.image_size, weights.tag)
    final = settings.out or home.features / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_name(final.name + ".lock"), f"extracting to {final}"):
        job = _Job(settings, dataset, weights, device, final, watcher)
        return job.run()


class _Job:
    """An extraction whose dataset, weights and place are known, and whose place is locked."""

    def __init__(
        self,
        settings: ExtractSettings,
        dataset: Dataset,
        weights: Weights,
        device: torch.device,
        final: Path,
        watcher: Watcher,
    ) -> None:
        self._settings = settings
        self._dataset = dataset
        self._weights = weights
        self._device = device
        self._final = final
        self._watcher = watcher
        self._workers = settings.workers or default_workers()

    def run(self) -> Extraction:
        with warnings.catch_warnings():  # set here: decoding threads share the filters
            warnings.simplefilter("ignore")  # transparency in palettes, odd EXIF, large pictures: all usable
            return self._run()

    def _run(self) -> Extraction:
        partial, restart = partial_path(self._final), self._settings.restart
        for file in (partial, self._final):
            refuse_foreign_file(file)
        if self._final.exists() and not partial.exists() and not restart:
            return self._accept_complete(read_header(self._final))
        self._watcher.on_stage(describe_annotations(self._dataset))
        trunk = build_trunk(self._weights)
        if partial.exists() and not restart:
            self._adopt(read_header(partial), trunk)
        else:
            self._begin(partial, trunk)  # replaces an old unfinished file only when the new one is whole
        return self._fill(Backbone(trunk, self._device, self._settings.precision))

    def _accept_complete(self, header: Header) -> Extraction:
        check_complete(header)
        self._check_same(header, check_request)
        n = len(header.states)
        return Extraction(self._final, Progress(n, n), _name_masked(header), self._weights.kind, True)

    def _adopt(self, header: Header, trunk: torch.nn.Sequential) -> None:
        threads = header.provenance.get("device", {}).get("threads")
        if self._device.type == "cpu" and isinstance(threads, int) and threads > 0:
            torch.set_num_threads(threads)  # belongs to the cache: it can decide a sum's last bit
        self._check_same(header, check_recipe)
        self._require_images(np.flatnonzero(header.states != DONE))
        if self._weights.kind == "random":
            restore_statistics(trunk, header.backbone_state)

    def _check_same(self, header: Header, check: Callable[..., None]) -> None:
        """Refuse features of other images; other labels, splits or vectors are only named."""
        block_rows = self._settings.batch_size or header.provenance.get("block_rows", DEFAULT_BLOCK_ROWS)
        check(header.provenance, self._recipe(block_rows), str(header.path))
        if header.annotations.image_paths != self._dataset.annotations.image_paths:
            raise ExtractError(
                f"{header.path}: the dataset's list of images changed since it was begun; begin anew with --restart"
            )
        changed = name_differences(header.annotations, self._dataset.annotations)
        if changed:
            self._watcher.on_stage(
                f"the dataset's {', '.join(changed)} changed since this cache was begun; once it is complete, "
                f"'msdn cache annotate {self._final} --dataset {self._settings.dataset}' takes them over"
            )

    def _require_images(self, rows: Iterable[int]) -> None:
        if self._settings.bad_images == "stop":
            require_images(self._dataset, rows)

    def _recipe(self, block_rows: int) -> dict[str, object]:
        s = self._settings
        return write_recipe(
            self._dataset, self._weights, s.image_size, self._device, s.precision, s.dtype, block_rows
        )

    def _begin(self, partial: Path, trunk: torch.nn.Sequential) -> None:
        statistics: dict[str, np.ndarray] = {}
        size = self._settings.image_size
        self._require_images(range(len(self._dataset.annotations.image_paths)))
        if self._weights.kind == "random":
            self._watcher.on_stage("calibrating batch norm on training images")
            calibrate(trunk, read_calibration_batches(self._dataset, size, self._workers), self._device)
            statistics = read_statistics(trunk)
        grid = size // STRIDE
        create_structure(
            partial,
            self._dataset.annotations,
            [MapSpec(MAIN, grid, grid, CHANNELS, np.dtype(self._settings.dtype), signed=False)],
            self._recipe(self._settings.batch_size or DEFAULT_BLOCK_ROWS),
            statistics,
        )

    def _fill(self, backbone: Backbone) -> Extraction:
        with PartialCache(self._final) as cache:
            progress, bad = fill_cache(
                cache,
                self._dataset,
                backbone,
                self._settings.image_size,
                cache.header.provenance["block_rows"],
                self._workers,
                self._watcher.on_progress,
            )
            masked = {str(self._dataset.image_path(row)): reason for row, reason in sorted(bad.items())}
            if bad and self._settings.bad_images == "stop":
                raise ExtractError(_list_bad(masked, cache.path, self._settings.restart))
            if bad:
                cache.mask_rows(bad)
            cache.finish()
        return Extraction(self._final, progress, masked, self._weights.kind)


def _list_bad(masked: dict[str, str], partial: Path, restart: bool) -> str:
    again = "repeat the command without --restart" if restart else "repeat the command"
    lines = "".join(f"\n  {path}: {reason}" for path, reason in masked.items())
    return (
        f"{len(masked)} images cannot be used:{lines}\nAll others are done and kept in {partial}; mend these and "
        f"{again}, or do so with '--bad-images mask' to leave them out."
    )


def _name_masked(header: Header) -> dict[str, str]:
    return {header.annotations.image_paths[row]: why for row, why in header.mask_reasons.items()}


def describe_annotations(dataset: Dataset) -> str:
    """One line: how much there is, and which copy of the lists says so."""
    a = dataset.annotations
    created = dataset.sources.get("lists", {}).get("att_splits.mat", UNDATED)
    return (
        f"{a.dataset}: {len(a.image_paths)} images of {len(a.seen_classes)} seen and {len(a.unseen_classes)} unseen "
        f"classes" + (f", by the splits of {created}" if created != UNDATED else "")
    )
