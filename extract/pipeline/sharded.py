"""An extraction shared by many processes: each fills parts of the cache on its own, and nothing is exchanged.

What all must agree on (rows in a block, CPU threads, the statistics of random weights) is read from a part that is
there; the first worker begins one while the others wait.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msdn.cache.annotations import cut, digest
from msdn.cache.errors import CacheError
from msdn.cache.files import FileLock, LockError
from msdn.cache.header import Header, read_header
from msdn.cache.layout import PART
from msdn.cache.merging import merge_parts
from msdn.cache.partial import partial_path
from msdn.cache.parts import (
    MADE_BY,
    Part,
    divide,
    find_parts,
    name_numbers,
    planning_lock,
    shared_recipe,
)
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.outcome import BadImagesError, Extraction, Shards
from msdn.extract.pipeline.progress import Progress
from msdn.extract.pipeline.recipe import check_recipe
from msdn.extract.pipeline.settings import DEFAULT_BLOCK_ROWS
from msdn.extract.pipeline.worker import Worker

if TYPE_CHECKING:
    from msdn.extract.pipeline.extraction import Job


def run_shards(job: "Job", worker: Worker) -> Extraction:
    """Fill this worker's parts; one that another process fills just now is tried again after the others."""
    with job.explained():
        return _Share(job, worker).run()


def take_finished(job: "Job") -> Extraction | None:
    """A cache that is complete is left as it is, and what it lacks is the work of one process; None where none is."""
    begun = partial_path(job.final)
    if begun.exists():
        raise ExtractError(
            f"{begun}: one process without shards began this cache; repeat its command to continue, or remove the file"
        )
    if not job.final.exists():
        return None
    missing = len(job.dataset.annotations.image_paths) - len(read_header(job.final).states)
    if missing > 0 or job.settings.retry_bad:
        why = f"{missing} images are new" if missing > 0 else "it is complete"
        raise ExtractError(
            f"{job.final}: {why}; repeat the command in one process, without --shard and --devices"
        )
    with FileLock(job.final.with_name(job.final.name + ".lock"), f"extracting to {job.final}", waits=True):
        return job.run()


class _Share:
    """The parts of one worker."""

    def __init__(self, job: "Job", worker: Worker) -> None:
        self._job, self._worker = job, worker
        self._dataset = digest(job.dataset.annotations)
        self._masked: dict[str, str] = {}
        self._bad: dict[str, str] = {}
        self._busy: dict[int, str] = {}

    def run(self) -> Extraction:
        with FileLock(planning_lock(self._job.final), "", waits=True):
            mine, todo = self._agree()
        sizes = {part.number: part.stop - part.start for part in mine}
        left = sum(sizes[part.number] for part in todo)
        self._progress = Progress(sum(sizes.values()), sum(sizes.values()) - left)
        header = _read_any(self._job.final) if todo else None
        if header is not None:
            self._job = replace(self._job, like=header, frozen=self._job.frozen or self._job.freeze(header))
        for part in todo:
            self._fill(part)
        for part in [part for part in todo if part.number in self._busy]:
            del self._busy[part.number]
            self._fill(part)
        found = find_parts(self._job.final)
        if self._bad:
            where = f"shards beside {self._job.final}"
            raise BadImagesError(self._bad, where, "repeat the command", self._job.is_own)
        shards = Shards(
            total=self._total,
            mine=tuple(part.path for part in mine if part.number in found.finished),
            missing=tuple(number for number in range(self._total) if number not in found.finished),
            busy=self._busy,
        )
        return Extraction(
            self._job.final, self._progress, self._masked, self._job.weights.kind, not todo, shards=shards
        )

    def _agree(self) -> tuple[list[Part], list[Part]]:
        """Settle what all workers share; return this worker's parts, and those of them that there is work in."""
        job, worker = self._job, self._worker
        header = _read_any(job.final)
        stored = header.provenance.get("block_rows") if header else None
        block_rows = job.settings.batch_size or stored or DEFAULT_BLOCK_ROWS
        self._job = job = replace(job, settings=replace(job.settings, batch_size=block_rows))
        if header is not None:
            job.take_threads(header)
            self._check_like(header)
        parts = divide(job.final, len(job.dataset.annotations.image_paths), block_rows)
        self._total = len(parts)
        mine = parts[worker.index :: worker.count]
        done = find_parts(job.final).finished.keys()
        todo = [part for part in mine if (part.number in done) == job.settings.retry_bad]
        job.watcher.on_stage(
            f"worker {worker.index} of {worker.count} ({worker.known_by}): {len(mine)} of {len(parts)} shards, "
            f"{len(todo)} to do"
        )
        job.require_images([row for part in todo for row in range(part.start, part.stop)])
        if header is None and todo:
            first = self._job_of(todo[0])
            self._job = replace(job, frozen=first.begin(partial_path(first.final)))
        return mine, todo

    def _check_like(self, header: Header) -> None:
        """Refuse to make parts of another recipe or dataset than those that are there; say if devices differ."""
        if PART not in header.provenance:
            raise ExtractError(f"{header.path}: not a part of a cache; remove it")
        block_rows = self._job.settings.batch_size or DEFAULT_BLOCK_ROWS
        now = self._job.recipe(block_rows, self._job.ask_for(header))
        advice = "repeat the first command, or remove the shards to start again"
        check_recipe(shared_recipe(header.provenance), shared_recipe(now), str(header.path), advice)
        if header.provenance[PART]["dataset"] != self._dataset:
            raise ExtractError(
                f"{header.path}: the dataset changed since this shard was made; remove all shards to start again"
            )
        if any(header.provenance[name] != now[name] for name in MADE_BY):
            self._job.watcher.on_stage(
                f"{header.path.name} was made on another device or by other versions; 'msdn cache merge' will need "
                "--allow-mixed"
            )

    def _job_of(self, part: Part) -> "Job":
        job = self._job
        annotations = job.dataset.annotations
        return replace(
            job,
            final=part.path,
            dataset=replace(job.dataset, annotations=cut(annotations, part.start, part.stop)),
            whole=job.dataset,
            part={
                "shard": part.number,
                "of": part.total,
                "first_row": part.start,
                "images": len(annotations.image_paths),
                "dataset": self._dataset,
            },
            watcher=replace(job.watcher, on_progress=lambda one: job.watcher.on_progress(self._add(one))),
        )

    def _fill(self, part: Part) -> None:
        """Finish a part, unless another process has its lock."""
        try:
            with FileLock(part.path.with_name(part.path.name + ".lock"), f"extracting to {part.path}"):
                done = self._job_of(part).run()
        except LockError as error:
            self._busy[part.number] = str(error)
        except BadImagesError as error:
            self._bad |= error.images
        else:
            self._progress = self._add(done.progress)
            self._masked |= done.masked

    def _add(self, part: Progress) -> Progress:
        """The progress of all parts before, and of one more."""
        return add_progress(self._progress, replace(part, total=0))


def _read_any(final: Path) -> Header | None:
    """The header of some part, or None where there is none; a worker may give it its finished name meanwhile."""
    while (path := find_parts(final).any_file) is not None:
        try:
            return read_header(path)
        except CacheError:
            if path.exists():
                raise
    return None


def add_progress(first: Progress, second: Progress) -> Progress:
    """The sum of both, number by number."""
    return Progress(
        **{field.name: getattr(first, field.name) + getattr(second, field.name) for field in fields(Progress)}
    )


def finish(job: "Job", done: Extraction) -> Extraction:
    """Merge the parts when the last is finished; they are removed, for nobody asked for them."""
    if done.shards is None:
        return done
    if done.shards.busy:
        raise ExtractError(
            f"{job.final}: shards {name_numbers([*done.shards.busy])} are still being made: "
            + "; ".join(dict.fromkeys(done.shards.busy.values()))
        )
    job.watcher.on_stage(f"merging {done.shards.total} shards")
    header = merge_parts(job.final, remove=True)
    masked = {header.annotations.image_paths[row]: why for row, why in header.mask_reasons.items()}
    return replace(done, masked=masked, was_complete=False, shards=None)
