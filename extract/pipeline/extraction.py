"""One whole extraction: from a dataset's name to a finished cache."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.cache.annotations import name_differences
from msdn.cache.errors import WrongUsageError
from msdn.cache.files import FileLock, check_folder, make_folder
from msdn.cache.header import Header, read_header, refuse_foreign_file
from msdn.cache.home import Home, command_line, name_cache, typed_dataset
from msdn.cache.layout import DONE, GROWN, PART, TODO, MapSpec
from msdn.cache.merging import remove_merged
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.parts import find_parts
from msdn.cache.reader import check_rows, find_damaged_rows
from msdn.cache.structure import create_structure
from msdn.extract.backbones.entry import Plan, features_tag, make_plan
from msdn.extract.backbones.frozen import (
    CompileError,
    FrozenNetwork,
    fixed_arithmetic,
    pays_to_compile,
    require_compiler,
)
from msdn.extract.backbones.network import (
    calibrate,
    check_layers,
    has_batch_norm,
    measure_maps,
    restore_statistics,
)
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import Weights, load_network
from msdn.extract.datasets.registry import is_own_folder, open_dataset
from msdn.extract.datasets.spec import UNDATED, Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.devices import run_on_devices
from msdn.extract.pipeline.growing import copy_cache, grow, in_cache_order, removed_rows
from msdn.extract.pipeline.outcome import BadImagesError, Extraction
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.reading import BlockReader, default_workers, require_images, require_readers
from msdn.extract.pipeline.recipe import ARITHMETIC, check_recipe, check_request, write_recipe
from msdn.extract.pipeline.settings import DEFAULT_BLOCK_ROWS, ExtractSettings
from msdn.extract.pipeline.sharded import finish, run_shards, take_finished
from msdn.extract.pipeline.worker import ALONE
from msdn.extract.pipeline.writing import fill_cache
from msdn.machine import choose_device, choose_devices, fastest_precision
from msdn.terminal import counted

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32
COMPILING = "compiling the network, which takes a minute"
SILENT = Watcher()


def extract(settings: ExtractSettings, home: Home, watcher: Watcher = SILENT) -> Extraction:
    """Extract a dataset's features, going on where an earlier, interrupted run stopped.

    One worker of many fills its shards, and one process for each of several devices does so; one process alone fills
    the whole cache.
    """
    if settings.out is not None:
        check_folder(settings.out, "--out")
    worker = settings.worker
    devices = choose_devices(settings.devices, "--devices") if settings.devices else [settings.device]
    if settings.restart and (worker or len(devices) > 1):
        raise WrongUsageError(
            "--restart is for one process: to start again with --shard or --devices, remove the cache and its shards "
            "(FILE.h5 and FILE.h5.shard-*)"
        )
    device = choose_device(devices[0], worker.local if worker else 0)
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
        make_folder(final.parent)
        job = Job(settings, dataset, plan, network, weights, device, final, watcher)
        if not (worker or len(devices) > 1 or job.has_shards()):
            with FileLock(final.with_name(final.name + ".lock"), f"extracting to {final}"):
                alone = job.run()
                remove_merged(final)
                return alone
        done = take_finished(job)
        if done is None and len(devices) > 1:
            done = run_on_devices(extract, replace(settings, out=final), home, devices, watcher)
        elif done is None:
            done = run_shards(job, worker or ALONE)
        return done if worker else finish(job, done)


@dataclass(frozen=True)
class Job:
    """The extraction to one file, whose rows, network and place are known.

    Of a part of a cache, `dataset` holds the part's images alone, and:

    Attributes:
        whole: the images of all parts.
        part: which one this is, for the provenance.
        like: the header of another part of the same cache, which says what is the same for all.
        frozen: the network, ready to compute.
        removed: rows of a cache that is gone on with whose image is gone.
        masked: its rows that were masked before.
    """

    settings: ExtractSettings
    dataset: Dataset
    plan: Plan
    network: torch.nn.Module
    weights: Weights
    device: torch.device
    final: Path
    watcher: Watcher
    whole: Dataset | None = None
    part: dict[str, Any] | None = None
    like: Header | None = None
    frozen: FrozenNetwork | None = None
    removed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    masked: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def has_shards(self) -> bool:
        """Whether workers began this cache in parts, and one process is to finish what they left."""
        is_begun = self.final.exists() or partial_path(self.final).exists() or self.settings.restart
        return not is_begun and find_parts(self.final).total > 0

    def run(self) -> Extraction:
        """Fill the file, or go on with it; its place must be locked."""
        with self.explained():
            return self._run()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Keep images' warnings quiet, and say what helps where memory runs out."""
        with warnings.catch_warnings():  # set here: decoding threads share the filters
            warnings.simplefilter("ignore")  # transparency in palettes, odd EXIF, large pictures: all usable
            try:
                yield
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
        if self.settings.retry_bad:
            raise ExtractError(f"{self.final}: there is no such cache; leave out --retry-bad to make it")
        self._describe()
        return self._fill(
            self.begin(partial)
        )  # replaces an old unfinished file only when the new one is whole

    def _describe(self) -> None:
        if self.part is None:
            self.watcher.on_stage(describe_annotations(self.dataset))

    @property
    def _workers(self) -> int:
        return self.settings.workers or default_workers()

    def _go_on(self, header: Header) -> Extraction:
        """Finish what an earlier run left, or add the images that the dataset gained since."""
        n, had = len(self.dataset.annotations.image_paths), len(header.states)
        is_complete, retries = header.path == self.final, self.settings.retry_bad
        masked = len(header.masked_rows) if retries else 0
        if is_complete:
            check_rows(header)
            self._check_same(header, check_request)
        elif retries and (header.states == TODO).any():
            raise ExtractError(f"{header.path}: not complete yet; leave out --retry-bad to continue")
        is_left = is_complete and n == had  # as it is, but for what is tried again
        damaged = [] if is_left and not retries else self._find_damaged(header)
        if is_left and not masked and not damaged:
            return Extraction(self.final, Progress(n, n), _name_masked(header), self.weights.kind, True)
        self._describe()
        self.take_threads(header)
        if header.provenance.get("compiled"):
            with _needing_a_compiler(header):
                require_compiler(self.device)
        if masked or damaged or not is_complete:
            self._check_same(header, check_recipe)
        self.require_images([*np.flatnonzero(header.states != DONE), *damaged, *range(had, n)])
        network = self.frozen or self.freeze(header)
        partial = partial_path(self.final)
        if n > had:
            self.watcher.on_stage(
                f"{counted(n - had, 'new image')}; the features of the other {had} stay as they are"
            )
            recipe = self.recipe(header.provenance["block_rows"], network.describe())
            grow(header, partial, self.dataset, recipe, damaged)
        elif is_complete:
            if masked:
                self.watcher.on_stage(
                    f"{counted(masked, 'masked image')} tried again; all other rows stay as they are"
                )
            copy_cache(header, partial, header.annotations, header.provenance, damaged)
        return self._fill(network, damaged)

    def _find_damaged(self, header: Header) -> list[int]:
        """Rows that are done and are not what was written; they are told, for they are made again."""
        damaged = sorted({row for _, row in find_damaged_rows(header, fast=not self.settings.retry_bad)})
        if damaged:
            were, are = ("was", "is") if len(damaged) == 1 else ("were", "are")
            first = header.annotations.image_paths[damaged[0]]
            self.watcher.on_stage(
                f"{header.path}: {counted(len(damaged), 'row')} {were} damaged and {are} extracted again, first row "
                f"{damaged[0]} ({first})"
            )
        return damaged

    def freeze(self, header: Header) -> FrozenNetwork:
        """The network as a file was started with it, which decides bits, or a sentence about what is missing."""
        if self.weights.kind == "random":
            restore_statistics(self.network, header.backbone_state)
        stored = header.provenance
        network = self._freeze(stored["precision"])
        if stored.get("compiled"):
            self.watcher.on_stage(COMPILING)
            with _needing_a_compiler(header):
                network.compile(stored["block_rows"])
        check_recipe({key: stored.get(key) for key in ARITHMETIC}, network.describe(), str(header.path))
        return network

    def take_threads(self, header: Header) -> None:
        """Compute with as many threads as before: their number can decide a sum's last bit."""
        threads = header.provenance.get("device", {}).get("threads")
        wanted = self.settings.threads is None and self.device.type == "cpu"
        if wanted and isinstance(threads, int) and threads > 0:
            torch.set_num_threads(threads)

    def _check_same(self, header: Header, check: Callable[..., None]) -> None:
        """Refuse features made in another way; other labels, splits or vectors of the same images are only named."""
        block_rows = self.settings.batch_size or header.provenance.get("block_rows", DEFAULT_BLOCK_ROWS)
        check(header.provenance, self.recipe(block_rows, self.ask_for(header)), str(header.path))
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

    def require_images(self, rows: Sequence[int]) -> None:
        """Refuse to begin where images are missing, unless bad ones are to be masked."""
        if not self._masks_bad:
            rows = np.setdiff1d(rows, [*self.removed, *self.masked]).tolist()
            require_images(self.dataset, rows)
            require_readers([self.dataset.image_path(row) for row in rows])

    @property
    def is_own(self) -> bool:
        """Whether the images are in a folder of the user's own, where they may be removed."""
        return is_own_folder(self.settings.dataset)

    @property
    def _masks_bad(self) -> bool:
        return self.settings.bad_images == "mask" or self.settings.retry_bad

    @property
    def _all(self) -> Dataset:
        """The images of the whole cache: they decide what is the same for each of its parts."""
        return self.whole or self.dataset

    def recipe(self, block_rows: int, arithmetic: Mapping[str, object]) -> dict[str, object]:
        """The file's provenance."""
        dtype = self.settings.dtype
        recipe = write_recipe(self._all, self.plan, self.weights, self.device, arithmetic, dtype, block_rows)
        return {**recipe, PART: self.part} if self.part else recipe

    def ask_for(self, header: Header) -> dict[str, object]:
        """How the network is to compute: as the cache was started, but for what the settings name."""
        arithmetic = {key: header.provenance.get(key) for key in ARITHMETIC}
        if self.settings.precision != "auto":
            arithmetic["precision"] = self.settings.precision
        if self.settings.compile != "auto":
            arithmetic["compiled"] = self.settings.compile == "yes"
        return arithmetic

    def _freeze(self, precision: str) -> FrozenNetwork:
        return FrozenNetwork(self.network, self.plan, self.device, precision, self.settings.dtype)

    def _freeze_first(self, block_rows: int) -> FrozenNetwork:
        """Decide how the network computes, once for the whole cache, and say so."""
        precision, why = self.settings.precision, ""
        if precision == "auto":
            precision, why = fastest_precision(self.device), ", the fastest on this machine"
        network = self._freeze(precision)
        images, size = len(self._all.annotations.image_paths), self.plan.preparation.size
        wanted = self.settings.compile
        if wanted == "yes" or (wanted == "auto" and pays_to_compile(images, size, self.device)):
            self.watcher.on_stage(COMPILING)
            try:
                network.compile(block_rows)
            except CompileError as error:
                if wanted == "yes":
                    raise ExtractError(
                        f"--compile yes: {error}; leave it out, or use --compile no"
                    ) from error
                self.watcher.on_stage(f"{error}; it goes on without, more slowly")
        if why or network.compiled:
            self.watcher.on_stage(f"computing in {precision}{why}{', compiled' * network.compiled}")
        return network

    def begin(self, partial: Path) -> FrozenNetwork:
        """Set a file aside for all rows; return the network that computes them, which decides bits."""
        self.require_images(range(len(self.dataset.annotations.image_paths)))
        block_rows = self.settings.batch_size or DEFAULT_BLOCK_ROWS
        maps, statistics = self._measure()
        network = self.frozen or self._freeze_first(block_rows)
        recipe = self.recipe(block_rows, network.describe())
        create_structure(partial, self.dataset.annotations, maps, recipe, statistics)
        return network

    def _measure(self) -> tuple[list[MapSpec], dict[str, np.ndarray]]:
        """The maps, and the statistics of random weights, as another part has them."""
        if self.like is not None:
            return [*self.like.maps.values()], self.like.backbone_state
        shapes = measure_maps(self.network, self.plan)
        statistics: dict[str, np.ndarray] = {}
        if self.weights.kind == "random" and has_batch_norm(self.network):
            self.watcher.on_stage("calibrating batch norm on training images")
            statistics = calibrate(self.network, self.plan, self._calibration_batches(), self.device)
        dtype = np.dtype(self.settings.dtype)
        maps = [MapSpec(n, s.height, s.width, s.channels, dtype, s.signed) for n, s in shapes.items()]
        return maps, statistics

    def _calibration_batches(self) -> Iterator[np.ndarray]:
        """Yield a fixed, evenly spread choice of training images; unusable ones are left out."""
        trainval = self._all.annotations.splits["trainval"]
        step = max(1, len(trainval) // CALIBRATION_IMAGES)
        chosen = trainval[::step][:CALIBRATION_IMAGES].tolist()
        paths = [self._all.image_path(row) for row in chosen]
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

    def _fill(self, network: FrozenNetwork, damaged: Sequence[int] = ()) -> Extraction:
        with PartialCache(self.final) as cache:
            if damaged:
                cache.forget_rows(damaged)
            progress, bad = fill_cache(cache, self.dataset, network, self.plan, self._workers, self.watcher)
            bad |= {row: "removed" for row in bad.keys() & set(self.removed.tolist())}
            paths = {row: str(self.dataset.image_path(row)) for row in sorted(bad)}
            new = {path: bad[row] for row, path in paths.items() if row not in {*self.removed, *self.masked}}
            if new and not self._masks_bad:
                without = " without --restart" if self.settings.restart else ""
                raise BadImagesError(new, str(cache.path), f"repeat the command{without}", self.is_own)
            if bad:
                cache.mask_rows(bad)
            cache.finish()
            grown = cache.header.provenance.get(GROWN)
        added = len(cache.states) - grown[-1]["rows"] if grown else 0
        masked = {path: bad[row] for row, path in paths.items()}
        return Extraction(self.final, progress, masked, self.weights.kind, added=added)

    def _advise_on_memory(self) -> str:
        """What needs less: the number of images at once belongs to a cache, so another number starts it again."""
        where = "out of memory" if self.device.type == "cpu" else "the GPU is out of memory"
        partial = partial_path(self.final)
        at_once = read_header(partial).provenance.get("block_rows", 1) if partial.exists() else 1
        if at_once == 1:
            return f"{where}; a smaller --image-size, a smaller --backbone or another --device needs less"
        again = "remove the shards and start with '" if self.part else "repeat the command with '--restart "
        return f"{where} with {at_once} images at once; {again}--batch-size {at_once // 2}'"


@contextmanager
def _needing_a_compiler(header: Header) -> Iterator[None]:
    try:
        yield
    except CompileError as error:
        raise ExtractError(
            f"{header.path} was started with a compiled network: {error}; continue on a machine that can do it, or "
            "start again with '--restart --compile no'"
        ) from error


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
