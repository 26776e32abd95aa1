"""Checkpoints: read back as written, and refused with a sentence where anything in them cannot be used."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from msdn.train.errors import RunError
from msdn.train.loop.checkpoints import load_checkpoint, save_checkpoint

RECORD = {"epoch": 1, "epochs": 2, "loss": 0.5, "H": None, "seconds": 0.1}
VALIDATED = {
    "phase": "validation",
    "epoch": 1,
    "seconds": 1,
    "val_margin": 0.5,
    "val_temperature": 1.0,
} | dict.fromkeys(("val_acc", "val_U", "val_S", "val_H", "val_AUSUC"), 20.0)
KEPT = {"epoch": 1, "U": 1.0, "S": 2.0, "H": None, "acc": 3.0, "weights": {"a": torch.ones(2)}}
CONTENT: dict[str, Any] = {
    "epoch": 2,
    "settings": {},
    "fingerprint": "abc",
    "metrics": [VALIDATED, RECORD],
    "trainer": {"model": {"a": torch.zeros(2)}},
    "kept": {"gzsl": KEPT},
    "parameters": 2,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the checkpoint lies."""
    return tmp_path / "checkpoint.pt"


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


def test_a_checkpoint_is_read_as_written(path: Path) -> None:
    save_checkpoint(path, CONTENT)
    content = load_checkpoint(path)
    assert torch.equal(content["trainer"]["model"]["a"], torch.zeros(2))
    assert {name: content[name] for name in ("epoch", "metrics", "parameters")} == {
        name: CONTENT[name] for name in ("epoch", "metrics", "parameters")
    }


def test_what_was_read_is_written_with_the_same_bytes(path: Path) -> None:
    texts = {
        "phase": "".join(["valida", "tion"]),
        "shared": CONTENT["metrics"][0]["phase"],
    }  # equal, not the same
    save_checkpoint(path, CONTENT | {"settings": texts})
    content = load_checkpoint(path)
    again = path.with_name("again.pt")
    save_checkpoint(again, {name: content[name] for name in CONTENT})
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("version", [1, 3, None, "3", torch.ones(3), "x" * 9999])
def test_another_version_says_so(path: Path, version: Any) -> None:
    save_checkpoint(path, {**CONTENT, "version": version})
    with pytest.raises(RunError, match=r"checkpoint version .*, expected 4; train the model again") as raised:
        load_checkpoint(path)
    assert len(str(raised.value)) < len(str(path)) + 120


@pytest.mark.parametrize("content", [[], 3, torch.zeros(2)])
def test_what_is_no_checkpoint_is_refused(path: Path, content: Any) -> None:
    torch.save(content, path)
    with pytest.raises(RunError, match=r"checkpoint\.pt: damaged, it does not fit its own digest"):
        load_checkpoint(path)
    path.write_bytes(path.read_bytes() + b"\nsha256 " + sha256(path.read_bytes()).hexdigest().encode())
    with pytest.raises(RunError, match="checkpoint version None, expected 4"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", CONTENT)
def test_a_missing_part_is_named(path: Path, part: str) -> None:
    save_checkpoint(path, without(CONTENT, part))
    with pytest.raises(RunError, match=rf"checkpoint\.pt: damaged, its '{part}' cannot be read; train the"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "record",
    [
        5,
        [],
        without(RECORD, "seconds"),
        without(RECORD, "epoch"),
        *(RECORD | {"seconds": seconds} for seconds in ("1", None, -1, float("nan"), 10**400, torch.ones(1))),
        *(RECORD | {"epoch": epoch} for epoch in (0, 1.0, "1")),
        *(RECORD | {"loss": loss} for loss in (torch.ones(1), [0.5])),
        RECORD | {"phase": torch.ones(2)},
        RECORD | {3: 0.5},
        without(VALIDATED, "val_H"),
        without(VALIDATED, "val_margin"),
        VALIDATED | {"val_acc": 101},
    ],
)
def test_a_record_that_no_epoch_gave_is_refused(path: Path, record: Any) -> None:
    save_checkpoint(path, CONTENT | {"metrics": [VALIDATED, record]})
    with pytest.raises(RunError, match="damaged, its 'metrics' cannot be read"):
        load_checkpoint(path)


def test_a_record_too_few_is_refused(path: Path) -> None:
    save_checkpoint(path, CONTENT | {"metrics": [RECORD]})
    with pytest.raises(RunError, match="damaged, its 'epoch' cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "kept",
    [
        {"gzsl": 3},
        {"both": KEPT},
        {3: KEPT},
        {"gzsl": without(KEPT, "H")},
        {"gzsl": KEPT | {"H": "high"}},
        {"gzsl": KEPT | {"epoch": 0}},
        {"gzsl": KEPT | {"weights": []}},
        {"gzsl": KEPT | {"more": torch.ones(2)}},
    ],
)
def test_kept_weights_of_another_shape_are_refused(path: Path, kept: Any) -> None:
    save_checkpoint(path, CONTENT | {"kept": kept})
    with pytest.raises(RunError, match="damaged, its 'kept' cannot be read"):
        load_checkpoint(path)
