"""`msdn extract`: images to a feature cache."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.cache.home import Home, command_line, home_option
from msdn.cache.parts import name_numbers
from msdn.extract.pipeline.settings import (
    BAD_IMAGES,
    COMPILE,
    DEFAULT_BLOCK_ROWS,
    DTYPES,
    EXIF,
    PRECISIONS,
    ExtractSettings,
)
from msdn.extract.pipeline.worker import find_worker, read_shard
from msdn.terminal import counted, escape, json_option, print_json, say, warn

if TYPE_CHECKING:
    from msdn.extract.pipeline.outcome import Extraction
    from msdn.extract.pipeline.progress import Progress

DEFAULT = ExtractSettings(dataset="")


@click.command(context_settings={"show_default": True})
@click.option(
    "--dataset",
    required=True,
    metavar="NAME|FOLDER",
    help="cub, sun, awa2, flo, plumage (drawn, ships with msdn), or your own folder.",
)
@click.option(
    "--backbone",
    default=DEFAULT.backbone,
    metavar="NAME|timm:NAME|FILE.py",
    help="The frozen network; 'msdn backbones' lists all. Code in FILE.py is run.",
)
@click.option(
    "--image-size",
    type=click.IntRange(16, 4096),
    show_default="the backbone's own",
    help="Pixels; with resnet101, 224 gives 7x7 regions, 448 gives 14x14.",
)
@click.option(
    "--layer",
    default=DEFAULT.layer,
    metavar="LAYER[,norm|raw][,pool=HxW]",
    show_default="the backbone's own",
    help="Take the region map from another block; 'msdn backbones NAME' lists them.",
)
@click.option(
    "--also",
    multiple=True,
    metavar="NAME[=LAYER][,norm|raw][,pool=HxW|class]",
    help="One more map in the same cache, for example 'global' (mean over all regions), 'global,pool=class' (the class "
    "token) or 'coarse=blocks.10,pool=8x8'. Can be repeated.",
)
@click.option(
    "--weights",
    default=DEFAULT.weights,
    metavar="imagenet|FILE|random",
    help="The backbone's own weights (of torchvision: ImageNet V1, as published), a state dict, or random ones "
    "(random:SEED).",
)
@click.option("--device", default=DEFAULT.device, help="auto (GPU if there is one), cpu, cuda:0 …")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=DEFAULT.precision,
    help="Arithmetic of the backbone; auto: bfloat16 where this machine is fast at it, else float32. The same for the "
    "whole cache.",
)
@click.option(
    "--compile",
    type=click.Choice(COMPILE),
    default=DEFAULT.compile,
    help="Compile the network first, which takes a minute and needs a C++ compiler; auto: for large datasets. The same "
    "for the whole cache.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DEFAULT.dtype,
    help="How features are stored; float32 takes twice the disk.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    show_default=f"the unfinished cache's, else {DEFAULT_BLOCK_ROWS}",
    help="Images computed at once; the same for the whole cache.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), show_default="one per core, at most 8", help="Decoding threads."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    show_default="the unfinished cache's, else one per core",
    help="CPU threads that compute; the same for the whole cache.",
)
@click.option(
    "--bad-images",
    type=click.Choice(BAD_IMAGES),
    default=DEFAULT.bad_images,
    help="Unreadable or missing images: list them and write no cache, or mask their rows.",
)
@click.option(
    "--exif",
    type=click.Choice(EXIF),
    show_default="upright for your own folder, keep for known datasets",
    help="Turn images upright as their EXIF data says, or keep them as they are stored; the same for the whole cache.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default="HOME/features/DATASET-SIZE-[BACKBONE_]WEIGHTS.h5",
    help="The cache to write.",
)
@click.option("--restart", is_flag=True, help="Start again, and drop what an earlier run left.")
@click.option(
    "--retry-bad",
    is_flag=True,
    help="Of a finished cache (or of finished shards), make masked and damaged rows again, and no others.",
)
@click.option(
    "--shard",
    metavar="I/N",
    show_default="what torchrun or SLURM says, else one process makes the whole cache",
    help="Be worker I of N, counted from 0, and write this worker's shards beside the cache; 'msdn cache merge' makes "
    "the cache of them.",
)
@click.option(
    "--devices",
    default=DEFAULT.devices,
    show_default="one device",
    metavar="all|LIST",
    help="Several devices of this machine at once, a process for each: all GPUs, or a list such as cuda:0,cuda:1.",
)
@json_option
@home_option
def extract(home: Home, as_json: bool, shard: str | None, **choices: Any) -> None:
    """Run a frozen network over all images once and cache its region features.

    After an interruption, repeat the same command to continue. Images are prepared as in the network's
    own evaluation; for resnet101, as for the published feature files. If you added images to your own
    folder, only the new images are extracted; their rows come after the others. Many machines can share
    the work: each worker repeats the command with its --shard, or torchrun or a SLURM array starts them.
    """
    from msdn.extract.pipeline.extraction import extract as run_extraction
    from msdn.extract.pipeline.progress import ProgressView
    from msdn.terminal import note_console

    if choices["devices"] and choices["device"] != DEFAULT.device:
        raise click.UsageError("Give --device or --devices, not both.")
    worker = find_worker(os.environ) if shard is None else read_shard(shard)
    try:
        with ProgressView(note_console()) as view:
            done = run_extraction(ExtractSettings(**choices, worker=worker), home, view.watcher)
    except KeyboardInterrupt:
        again = "the same command without --restart" if choices["restart"] else "the same command"
        warn(f"interrupted; repeat {again} to continue")
        raise
    except OSError:
        if choices["restart"]:
            warn("what was written is kept: leave out --restart to continue from there")
        raise
    _tell(done)
    if as_json:
        print_json(_facts(done))
    else:
        for path in [done.path] if done.shards is None else done.shards.mine:
            click.echo(escape(str(path)))


def _tell(done: "Extraction") -> None:
    """What was done, for people."""
    if done.progress.computed:
        say(_times(done.progress))
    if done.shards is not None:
        _tell_shards(done)
    elif done.was_complete:
        say("already complete; --restart starts again")
    if done.added:
        say(
            f"{counted(done.added, 'image')} added; train again to use them; runs trained before this predict as before"
        )
    if done.masked:
        warn(f"{counted(len(done.masked), 'image')} masked: never trained or tested on")
        for path, reason in done.masked.items():
            warn(escape(f"  {path}: {reason}"))
    if done.weights_kind == "random":
        warn("backbone: random weights; results say nothing about published figures")


def _tell_shards(done: "Extraction") -> None:
    """What this worker did, and what is to come before the cache is there."""
    assert done.shards is not None
    for why in dict.fromkeys(done.shards.busy.values()):
        warn(f"shards {name_numbers([*done.shards.busy])} are left to others: {why}")
    finished = done.shards.total - len(done.shards.missing)
    merge = f"'{command_line('cache', 'merge', done.path)}'"
    following = f"then {merge}" if done.shards.missing else merge
    missing = f", not {name_numbers([*done.shards.missing])}" if done.shards.missing else ""
    say(f"{finished} of {done.shards.total} shards are finished{missing}; {following} makes the cache")


def _times(progress: "Progress") -> str:
    return (
        f"{progress.computed} images in {progress.elapsed:.1f} s ({progress.rate:.1f} images/s): "
        f"reading {progress.reading:.1f} s, computing {progress.computing:.1f} s, writing {progress.writing:.1f} s; "
        f"{progress.bottleneck} sets the pace"
    )


def _shard_facts(done: "Extraction") -> dict[str, Any]:
    assert done.shards is not None
    shards = done.shards
    return {
        "total": shards.total,
        "mine": [str(path) for path in shards.mine],
        "missing": [*shards.missing],
        "busy": [*shards.busy],
    }


def _facts(done: "Extraction") -> dict[str, Any]:
    """What was done, for machines."""
    progress = done.progress
    return {
        "cache": str(done.path),
        "was_complete": done.was_complete,
        "weights": done.weights_kind,
        "masked": dict(done.masked),
        **({"shards": _shard_facts(done)} if done.shards else {}),
        "computed_images": progress.computed,
        "seconds": {name: getattr(progress, name) for name in ("elapsed", "reading", "computing", "writing")},
    }
