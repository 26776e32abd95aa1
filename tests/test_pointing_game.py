"""The pointing game against a loop over questions, boxes and regions."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from toy_cache import make_annotations

from msdn.cache import FeatureCache, Home
from msdn.extract.backbones.places import Places
from msdn.extract.plumage.birds import PARTS
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of

FOLDER = Path(__file__).parent.parent / "benchmarks"
NAMES = ("wing color: red", "tail shape: forked", "size: small", "wing pattern: solid", "bill color: red")
WING, TAIL, BILL = (PARTS.index(part) for part in ("wing", "tail", "bill"))
PART_OF = [WING, TAIL, None, WING, BILL]
PLACES = Places(10, 20)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark as a module; it imports the one beside it."""
    spec = importlib.util.spec_from_file_location("pointing_game", FOLDER / "pointing_game.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    annotations = make_annotations(n_attributes=5)
    object.__setattr__(annotations, "attribute_names", NAMES)
    return FeatureCache(make_cache(annotations=annotations))


@pytest.fixture
def boxes(cache: FeatureCache) -> dict:
    rng = np.random.RandomState(3)
    corners = rng.randint(0, 40, (len(cache.annotations.image_paths), len(PARTS), 2))
    return {
        path: {
            part: (int(x), int(y), int(x) + 25, int(y) + 15) for part, (x, y) in zip(PARTS, one, strict=True)
        }
        for path, one in zip(cache.annotations.image_paths, corners, strict=True)
    }


def lies_inside(box: tuple[int, int, int, int], region: int) -> bool:
    x, y = 10 + 20 * (region % 3), 10 + 20 * (region // 3)
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def test_questions_and_hits_follow_a_loop(script: ModuleType, cache: FeatureCache, boxes: dict) -> None:
    annotations = cache.annotations
    game = script.set_game(cache, boxes, PLACES)
    rows = [*annotations.splits["test_seen"], *annotations.splits["test_unseen"]]
    questions = [
        (b, k)
        for b, row in enumerate(rows)
        for k in range(5)
        if PART_OF[k] is not None and annotations.attributes[annotations.labels[row], k] >= 50
    ]
    assert (
        list(zip(game.image.tolist(), game.attribute.tolist(), strict=True)) == questions
        and len(questions) > 10
    )
    regions = np.random.RandomState(1).randint(0, 9, len(questions))
    hits, chance, elsewhere, constant = (
        game.hits(regions),
        game.chance,
        game.elsewhere(regions),
        game.constant,
    )
    for part, name in ((WING, "wing"), (TAIL, "tail"), (BILL, "bill")):
        counts = [
            sum(
                lies_inside(boxes[annotations.image_paths[row]][name], r)
                for row in annotations.splits["trainval"]
            )
            for r in range(9)
        ]
        assert constant[part] == int(np.argmax(counts))
    for n, (b, k) in enumerate(questions):
        box = boxes[annotations.image_paths[rows[b]]][PARTS[PART_OF[k]]]
        assert hits[n] == lies_inside(box, int(regions[n]))
        assert game.most[n] == any(lies_inside(box, r) for r in range(9))
        assert chance[n] == pytest.approx(sum(lies_inside(box, r) for r in range(9)) / 9)
        others = [int(r) for r, (c, j) in zip(regions, questions, strict=True) if j == k and c != b]
        assert elsewhere[n] == pytest.approx(np.mean([lies_inside(box, r) for r in others]) if others else 0)


def test_a_branch_answers_where_its_attention_is_highest(
    script: ModuleType, cache: FeatureCache, boxes: dict, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_model(cache, settings_of("msdn", epochs=2, batch_size=8, learning_rate=1e-2), home.runs)
    game = script.set_game(cache, boxes, PLACES)
    whole = script.answer(run, cache, game)
    monkeypatch.setattr(script, "AT_ONCE", 3)
    assert list(whole) == ["av", "va"]
    for branch, regions in script.answer(run, cache, game).items():
        assert np.array_equal(regions, whole[branch]) and regions.shape == game.image.shape
    lines = list(script.page_lines(game, game, {"msdn A→V": [whole["av"]]}, PLACES, [0]))
    row = next(line for line in lines if line.startswith("| msdn A→V"))
    assert f" {100 * game.hits(whole['av']).mean():.1f} |" in row


def test_boxes_are_read_as_plumage_writes_them(script: ModuleType, tmp_path: Path) -> None:
    with (tmp_path / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["image", "part", "x0", "y0", "x1", "y1"], ["images/a/1.jpg", "wing", 1, 2, 30, 40]]
        )
    assert script.read_boxes(tmp_path / "parts.csv") == {"a/1.jpg": {"wing": (1, 2, 30, 40)}}


def test_the_page_of_the_docs_has_its_place(script: ModuleType) -> None:
    assert script.MARKS[0] in script.read_page(script.PAGE, script.MARKS)
