"""`merge_parts`: one cache of its parts, the same bytes as if one process had written it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import digest, join
from msdn.cache.copying import copy_rows
from msdn.cache.errors import CacheError
from msdn.cache.files import FileLock, new_file, remove_leftovers
from msdn.cache.header import Header, read_header
from msdn.cache.partial import partial_path
from msdn.cache.parts import (
    MADE_BY,
    compare_recipes,
    find_parts,
    name_numbers,
    planning_lock,
    shared_recipe,
)
from msdn.cache.reader import check_rows
from msdn.cache.structure import write_structure


def merge_parts(
    final: Path,
    *,
    allow_mixed: bool = False,
    remove: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Header:
    """Write the cache `final` from its parts, which lie beside it; every row is compared with its checksums.

    The new file is made under another name and takes its own when it is whole, so a crash leaves all or nothing.

    Args:
        final: the cache to write.
        allow_mixed: take parts that were made on different devices or by different versions, and record which.
        remove: remove the parts afterwards; where the cache is there, finish that.
        on_progress: called with the number of parts that are in, and of all.
    """
    with FileLock(final.with_name(final.name + ".lock"), f"writing {final}"):
        if remove and remove_merged(final):
            return read_header(final)
        headers = _read_parts(final)
        _check_alike(headers)
        provenance = _join_provenance(headers, allow_mixed)
        annotations = join([header.annotations for header in headers])
        if digest(annotations) != headers[0].provenance[layout.PART]["dataset"]:
            raise CacheError(
                f"{headers[0].path}: the parts together are not the dataset that they were cut from"
            )
        first = headers[0]
        with new_file(final, replaces=False) as making:
            write_structure(making, annotations, [*first.maps.values()], provenance, first.backbone_state)
            for done, header in enumerate(headers, 1):
                copy_rows(header, making, header.provenance[layout.PART]["first_row"])
                on_progress(done, len(headers))
        if remove:
            _remove(headers, final)
    return read_header(final)


def remove_merged(final: Path) -> bool:
    """Remove what a killed merge left beside a cache, whose place must be locked; return whether parts were there.

    A part whose rows are not all in the cache stays, and so do all others.
    """
    remove_leftovers(final)
    parts = find_parts(final).finished.values()
    if not parts or not final.exists():
        return False
    headers, whole = [read_header(path) for path in parts], read_header(final)
    if not all(_is_part(header, whole) for header in headers):
        return False
    _remove(headers, final)
    return True


def _is_part(header: Header, whole: Header) -> bool:
    """Whether the rows of a cache, with their images and checksums, are in another one where its provenance says."""
    first = header.provenance.get(layout.PART, {}).get("first_row")
    if not isinstance(first, int) or first < 0 or header.maps != whole.maps:
        return False
    rows = slice(first, first + len(header.states))
    return header.annotations.image_paths == whole.annotations.image_paths[rows] and all(
        np.array_equal(getattr(header, name), getattr(whole, name)[rows])
        for name in ("states", "checksums", "crc32")
    )


def _remove(headers: Sequence[Header], final: Path) -> None:
    """Remove the parts, and what killed workers left beside them."""
    for header in headers:
        with FileLock(header.path.with_name(header.path.name + ".lock"), "", waits=True):
            partial_path(header.path).unlink(missing_ok=True)
            header.path.unlink()
    with FileLock(planning_lock(final), "", waits=True):
        pass  # its file goes with it


def _read_parts(final: Path) -> list[Header]:
    """The headers of all parts in order; what stands in the way is refused."""
    for path in (final, partial_path(final)):
        if path.exists():
            raise CacheError(f"{path}: exists already; remove it first if the parts are to take its place")
    found = find_parts(final)
    if found.any_file is None:
        raise CacheError(
            f"{final}: no part of it lies beside it; 'msdn extract' with --shard and --out {final} makes them"
        )
    if found.missing:
        begun = sorted(found.unfinished.keys() & set(found.missing))
        raise CacheError(
            f"{final}: {len(found.missing)} of {found.total} shards are not finished: {name_numbers(found.missing)}"
            + (f" (begun: {name_numbers(begun)})" if begun else "")
            + "; repeat the 'msdn extract' of their workers, or with '--shard 0/1' in one process"
        )
    headers = [read_header(found.finished[number]) for number in range(found.total)]
    first_row = 0
    for number, header in enumerate(headers):
        check_rows(header)
        part = header.provenance.get(layout.PART, {})
        if [part.get(name) for name in ("shard", "of", "first_row")] != [number, found.total, first_row]:
            raise CacheError(f"{header.path}: does not hold the part that its name says; make it again")
        first_row += len(header.states)
    return headers


def _check_alike(headers: Sequence[Header]) -> None:
    """Refuse parts of different datasets or recipes."""
    first = headers[0]
    for other in headers[1:]:
        differences = [
            f"{name} is {before} there, {after} here"
            for name, before, after in compare_recipes(
                shared_recipe(first.provenance), shared_recipe(other.provenance)
            )
        ]
        for what in ("images", "dataset"):
            if first.provenance[layout.PART][what] != other.provenance[layout.PART][what]:
                differences.append("the dataset had other images or annotations")
        if first.maps != other.maps:
            differences.append("its maps are others")
        same_state = first.backbone_state.keys() == other.backbone_state.keys() and all(
            np.array_equal(values, other.backbone_state[name])
            for name, values in first.backbone_state.items()
        )
        if not same_state:
            differences.append("the statistics of its random weights are others")
        if differences:
            raise CacheError(
                f"{other.path}: not made as {first.path.name} ({'; '.join(dict.fromkeys(differences))}); remove it "
                "and make it again"
            )


def _join_provenance(headers: Sequence[Header], allow_mixed: bool) -> dict[str, Any]:
    """The first part's, as one process writes it; where the parts' devices differ, the rows of each are recorded."""
    provenance = {key: value for key, value in headers[0].provenance.items() if key != layout.PART}
    makers: list[dict[str, Any]] = []
    for number, header in enumerate(headers):
        made = {name: header.provenance[name] for name in MADE_BY}
        first, rows = header.provenance[layout.PART]["first_row"], len(header.states)
        if makers and {name: makers[-1][name] for name in MADE_BY} == made:
            makers[-1]["shards"][1], makers[-1]["rows"][1] = number, first + rows - 1
        else:
            makers.append({"shards": [number, number], "rows": [first, first + rows - 1], **made})
    if len(makers) > 1 and not allow_mixed:
        kinds: dict[str, dict[str, Any]] = {}
        for one in makers:
            kinds.setdefault(json.dumps([one[name] for name in MADE_BY], sort_keys=True), one)
        named = "; ".join(
            f"shard {one['shards'][0]}: {_flat(one['device'])}, {_flat(one['versions'])}"
            for one in kinds.values()
        )
        raise CacheError(
            f"the shards were made on different devices or by different versions ({named}); --allow-mixed merges "
            "them all the same and records which rows are whose"
        )
    return {**provenance, layout.MIXED: makers} if len(makers) > 1 else provenance


def _flat(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
