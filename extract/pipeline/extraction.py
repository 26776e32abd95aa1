"""One whole extraction: from a dataset's name to a finished cache."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from msdn.cache.annotations import name_differences
from msdn.cache.files import FileLock, check_folder
from msdn.cache.header import Header, read_header, refuse_foreign_file
from msdn.cache.home import Home, command_line, name_cache, typed_dataset
from msdn.cache.layout import DONE, GROWN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.reader import check_complete
from msdn.cache.structure import create_structure
from msdn.extract.backbones.entry import Plan, features_tag, make_plan
from msdn.extract.backbones.network import (
    FrozenNetwork,
    calibrate,
    check_layers,
    fixed_arithmetic,
    has_batch_norm,
    measure_maps,
    restore_statistics,
)
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import Weights, load_network
from msdn.extract.datasets.registry import is_own_folder, open_dataset
from msdn.extract.datasets.spec import UNDATED, Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.growing import grow, in_cache_order, removed_rows
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.reading import BlockReader, default_workers, require_images, require_readers
from msdn.extract.pipeline.recipe import check_recipe, check_request, write_recipe
from msdn.extract.pipeline.settings import DEFAULT_BLOCK_ROWS, ExtractSettings
from msdn.extract.pipeline.writing import fill_cache
from msdn.machine import choose_device
from msdn.terminal import count

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32
SILENT = Watcher()


@dataclass(frozen=True)
class Extraction:
    """What an extraction left: the cache, what it cost, the images it masked, and how many a finished cache gained."""

    path: Path
    progress: Progress
    masked: dict[str, str]
    weights_kind: str
    was_complete: bool = False
    added: int = 0


def extract(settings: ExtractSettings, home: Home, watcher: Watcher = SILENT) -> Extraction:
    """Extract a dataset's features, going on where an earlier, interrupted run stopped."""
    if settings.out is not None:
        check_folder(settings.out, "--out")
    device = choose_device(settings.device)
    plan = make_plan(find_backbone(settings.backbone), settings.image_size, settings.layer, settings.also)
    own = is_own_folder(settings.dataset)
    plan = plan.turn_upright(settings.exif == "upright" if settings.exif else own)
    dataset = open_dataset(settings.dataset, home, watcher.on_drawing)
    with fixed_arithmetic(settings.threads):
        network, weights = load_network(plan.backbone, settings.weights, plan.preparation.size, home)
        check_layers(network, plan)
        tag = features_tag({**plan.describe(), "weights": weights.description})
        final = settings.out or home.features / name_cache(
            dataset.annotations.dataset, plan.preparation.size, tag
        )
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_name(final.name + ".lock"), f"extracting to {final}"):
            return _Job(settings, dataset, plan, network, weights, device, final, watcher).run()


@dataclass(frozen=True)
class _Job:
    """An extraction whose dataset, network and place are known, and whose place is locked."""

    settings: ExtractSettings
    dataset: Dataset
    plan: Plan
    network: torch.nn.Module
    weights: Weights
    device: torch.device
    final: Path
    watcher: Watcher
    removed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # rows whose image is gone
    masked: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )  # rows that a pass before this masked

    def run(self) -> Extraction:
        with warnings.catch_warnings():  # set here: decoding threads share the filters
            warnings.simplefilter("ignore")  # transparency in palettes, odd EXIF, large pictures: all usable
            try:
                return self._run()
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                raise ExtractError(self._advise_on_memory()) from error

    def _run(self) -> Extraction:
        partial = partial_path(self.final)
        for file in (partial, self.final):
            refuse_foreign_file(file)
        begun = next((file for file in (partial, self.final) if file.exists()), None)
        if begun is not None and not self.settings.restart:
            header = read_header(begun)
            dataset, removed = in_cache_order(self.dataset, header), removed_rows(self.dataset, header)
            return replace(self, dataset=dataset, removed=removed, masked=header.masked_rows)._go_on(header)
        self.watcher.on_stage(describe_annotations(self.dataset))
        self._begin(partial)  # replaces an old unfinished file only when the new one is whole
        return self._fill()

    @property
    def _workers(self) -> int:
        return self.settings.workers or default_workers()

    def _go_on(self, header: Header) -> Extraction:
        """Finish what an earlier run left, or add the images that the dataset gained since."""
        n, had = len(self.dataset.annotations.image_paths), len(header.states)
        is_complete = header.path == self.final
        if is_complete:
            check_complete(header)
            self._check_same(header, check_request)
            if n == had:
                return Extraction(self.final, Progress(n, n), _name_masked(header), self.weights.kind, True)
        self.watcher.on_stage(describe_annotations(self.dataset))
        self._take_threads(header)
        if not is_complete:
            self._check_same(header, check_recipe)
        self._require_images([*np.flatnonzero(header.states != DONE), *range(had, n)])
        if self.weights.kind == "random":
            restore_statistics(self.network, header.backbone_state)
        if n > had:
            self.watcher.on_stage(
                f"{count(n - had, 'new image')}; the features of the other {had} stay as they are"
            )
            grow(
                header, partial_path(self.final), self.dataset, self._recipe(header.provenance["block_rows"])
            )
        return self._fill()

    def _take_threads(self, header: Header) -> None:
        """Compute with as many threads as before: their number can decide a sum's last bit."""
        threads = header.provenance.get("device", {}).get("threads")
        wanted = self.settings.threads is None and self.device.type == "cpu"
        if wanted and isinstance(threads, int) and threads > 0:
            torch.set_num_threads(threads)

    def _check_same(self, header: Header, check: Callable[..., None]) -> None:
        """Refuse features made in another way; other labels, splits or vectors of the same images are only named."""
        block_rows = self.settings.batch_size or header.provenance.get("block_rows", DEFAULT_BLOCK_ROWS)
        check(header.provenance, self._recipe(block_rows), str(header.path))
        if header.annotations.image_paths != self.dataset.annotations.image_paths:
            return  # the cache grows, and takes all annotations anew
        splits = {name: np.setdiff1d(rows, self.removed) for name, rows in header.annotations.splits.items()}
        changed = name_differences(replace(header.annotations, splits=splits), self.dataset.annotations)
        if changed:
            data = typed_dataset(self.settings.dataset)
            self.watcher.on_stage(
                f"the dataset's {', '.join(changed)} changed since this cache was started; when it is complete, put "
                f"the new ones into it with: {command_line('cache', 'annotate', self.final, '--dataset', data)}"
            )

    def _require_images(self, rows: Sequence[int]) -> None:
        if self.settings.bad_images == "stop":
            rows = np.setdiff1d(rows, [*self.removed, *self.masked]).tolist()
            require_images(self.dataset, rows)
            require_readers([self.dataset.image_path(row) for row in rows])

    def _recipe(self, block_rows: int) -> dict[str, object]:
        s = self.settings
        return write_recipe(
            self.dataset, self.plan, self.weights, self.device, s.precision, s.dtype, block_rows
        )

    def _begin(self, partial: Path) -> None:
        self._require_images(range(len(self.dataset.annotations.image_paths)))
        shapes = measure_maps(self.network, self.plan)
        statistics: dict[str, np.ndarray] = {}
        if self.weights.kind == "random" and has_batch_norm(self.network):
            self.watcher.on_stage("calibrating batch norm on training images")
            statistics = calibrate(self.network, self.plan, self._calibration_batches(), self.device)
        dtype = np.dtype(self.settings.dtype)
        create_structure(
            partial,
            self.dataset.annotations,
            [MapSpec(n, s.height, s.width, s.channels, dtype, s.signed) for n, s in shapes.items()],
            self._recipe(self.settings.batch_size or DEFAULT_BLOCK_ROWS),
            statistics,
        )

    def _calibration_batches(self) -> Iterator[np.ndarray]:
        """Yield a fixed, evenly spread choice of training images; unusable ones are left out."""
        trainval = self.dataset.annotations.splits["trainval"]
        step = max(1, len(trainval) // CALIBRATION_IMAGES)
        chosen = trainval[::step][:CALIBRATION_IMAGES].tolist()
        paths = [self.dataset.image_path(row) for row in chosen]
        batches = 0
        with BlockReader(
            paths, range(len(chosen)), CALIBRATION_BATCH, self.plan.preparation, self._workers
        ) as reader:
            for block in reader:
                if len(block.rows) > 1:  # statistics of one image would say nothing
                    batches += 1
                    yield block.images[block.positions]
        if not batches:
            raise ExtractError(
                f"{self.dataset.image_folder}: fewer than two of {len(chosen)} training images can be read, first: "
                f"{paths[0]}"
            )

    def _fill(self) -> Extraction:
        network = FrozenNetwork(self.network, self.plan, self.device, self.settings.precision)
        with PartialCache(self.final) as cache:
            progress, bad = fill_cache(cache, self.dataset, network, self.plan, self._workers, self.watcher)
            bad |= {row: "removed" for row in bad.keys() & set(self.removed.tolist())}
            masked = {row: str(self.dataset.image_path(row)) for row in sorted(bad)}
            new = {masked[row]: bad[row] for row in masked if row not in {*self.removed, *self.masked}}
            if new and self.settings.bad_images == "stop":
                raise ExtractError(self._list_bad(new, cache.path))
            if bad:
                cache.mask_rows(bad)
            cache.finish()
            grown = cache.header.provenance.get(GROWN)
        added = len(cache.states) - grown[-1]["rows"] if grown else 0
        named = {path: bad[row] for row, path in masked.items()}
        return Extraction(self.final, progress, named, self.weights.kind, added=added)

    def _list_bad(self, bad: dict[str, str], partial: Path) -> str:
        again = "repeat the command without --restart" if self.settings.restart else "repeat the command"
        fix = "replace or remove" if is_own_folder(self.settings.dataset) else "replace"
        lines = "".join(f"\n  {path}: {reason}" for path, reason in bad.items())
        return (
            f"{count(len(bad), 'image')} cannot be used:{lines}\nAll others are done and kept; {fix} what is named "
            f"here and {again}, or add '--bad-images mask' to leave it out.\nkept in: {partial}"
        )

    def _advise_on_memory(self) -> str:
        """What needs less: the number of images at once belongs to a cache, so another number starts it again."""
        where = "out of memory" if self.device.type == "cpu" else "the GPU is out of memory"
        partial = partial_path(self.final)
        at_once = read_header(partial).provenance["block_rows"] if partial.exists() else 1
        if at_once == 1:
            return f"{where}; a smaller --image-size, a smaller --backbone or another --device needs less"
        return f"{where} with {at_once} images at once; repeat the command with '--restart --batch-size {at_once // 2}'"


def _is_out_of_memory(error: BaseException) -> bool:
    """torch says it in its own way on a GPU, and by a plain RuntimeError on a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


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
