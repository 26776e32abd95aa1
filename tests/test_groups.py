"""Groups of attributes: where they come from, files of them, `msdn data groups`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from golden_dedn import groups_of
from toy_cache import make_annotations

from msdn.cache.annotations import Annotations
from msdn.train.errors import RunError
from msdn.train.groups.choose import choose_groups, cluster_groups, prefix_groups
from msdn.train.groups.groups import (
    AttributeGroups,
    GroupsError,
    collect_groups,
    is_partition,
    read_groups,
    write_groups,
)
from msdn.train.groups.tables import published_groups

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("wing color: red", "wing color: blue", "tail shape: long", "tail color: red", "size: small")


def shown(groups: AttributeGroups | None) -> dict[str, list[int]]:
    assert groups is not None
    return {group.name: group.attributes.tolist() for group in groups.groups}


def annotated(names: tuple[str, ...] = (), **changes: Any) -> Annotations:
    count = len(names) or changes.pop("count", 7)
    return replace(make_annotations(n_attributes=count), attribute_names=names, **changes)


@pytest.mark.parametrize(("dataset", "count"), [("cub", 312), ("awa2", 85)])
def test_published_tables_are_those_of_the_golden_files(dataset: str, count: int) -> None:
    found = published_groups(dataset, count)
    assert found is not None
    with np.load(GOLDEN / f"dedn_{dataset}.npz") as golden:
        expected = groups_of(golden)
    assert [group.attributes.tolist() for group in found.groups] == [numbers.tolist() for numbers in expected]


@pytest.mark.parametrize(
    ("dataset", "count", "sizes"),
    [
        ("cub", 312, {"head": 112, "torso": 87, "wing": 24, "tail": 40, "leg": 15, "whole body": 34}),
        ("awa2", 85, {"texture": 18, "limb": 15, "abstract": 38, "environment": 14}),
        ("sun", 102, {"function": 38, "element": 27, "environment and material": 17, "other": 20}),
    ],
)
def test_published_tables_hold_every_attribute_once(dataset: str, count: int, sizes: dict[str, int]) -> None:
    found = published_groups(dataset, count)
    assert found is not None and is_partition(found.groups, count)
    assert {name: len(numbers) for name, numbers in shown(found).items()} == sizes


def test_a_table_counts_only_for_its_dataset_and_number_of_attributes() -> None:
    assert published_groups("cub", 311) is None
    assert published_groups("toy", 312) is None
    assert "cluster" in choose_groups(annotated(dataset="cub", count=20)).source
    assert "published" in choose_groups(annotated(dataset="awa2", count=85)).source


def test_prefixes_put_together_what_is_said_of_a_thing() -> None:
    assert shown(prefix_groups((*NAMES, "size: big"))) == {"wing": [0, 1], "tail": [2, 3], "size": [4, 5]}


def test_plumage_has_its_parts() -> None:
    parts = ("bill", "head", "back", "breast", "belly", "wing", "tail")
    names = [f"{part} color: {color}" for part in parts for color in ("red", "blue")]
    names += [f"{part} pattern: solid" for part in ("wing", "tail")]
    assert list(shown(prefix_groups(names))) == list(parts)


def test_names_of_cub_as_published() -> None:
    names = (
        "has_bill_shape::dagger",
        "has_Bill_length::long",
        "has_upper_tail_color::red",
        "has_upper_tail_pattern::solid",
    )
    assert shown(prefix_groups(names)) == {"bill": [0, 1], "upper tail": [2, 3]}


def test_whole_prefixes_where_all_is_said_of_one_thing() -> None:
    names = ("wing color: red", "wing color: blue", "wing shape: long", "wing shape: short")
    assert shown(prefix_groups(names)) == {"wing color": [0, 1], "wing shape": [2, 3]}


def test_attributes_without_company_are_other() -> None:
    assert shown(prefix_groups((*NAMES, "beak, long"))) == {"wing": [0, 1], "tail": [2, 3], "other": [4, 5]}


@pytest.mark.parametrize(
    "names",
    [(), ("furry", "black", "big", "small"), ("a: 1", "b: 1", "c: 1", "d: 1"), ("a: 1", "a: 2", "a: 3")],
)
def test_names_that_divide_nothing_give_no_groups(names: tuple[str, ...]) -> None:
    assert prefix_groups(names) is None


def test_the_order_of_sources(tmp_path: Path) -> None:
    annotations = annotated((*NAMES, "size: big"))
    assert choose_groups(annotations).source == "prefixes of the attributes' names"
    file = tmp_path / "mine.csv"
    file.write_text("attribute,group\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(1, 7)))
    assert shown(choose_groups(annotations, file)) == {"b": [0, 2, 4], "a": [1, 3, 5]}
    assert choose_groups(annotations, file).source == "file mine.csv"
    assert choose_groups(annotated()).source == "clustering of the attribute vectors"
    assert "over the seen classes" in choose_groups(annotated(attribute_vectors=None)).source


def blobs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around three directions, of any length, and which direction each has."""
    rng = np.random.RandomState(seed)
    which = np.concatenate([np.arange(3), rng.randint(0, 3, count - 3)])
    centres = np.eye(3, 10)
    return (centres[which] + 0.01 * rng.randn(count, 10)) * rng.uniform(0.1, 10, (count, 1)), which


@pytest.mark.parametrize("of_classes", [False, True])
def test_clusters_are_directions(of_classes: bool) -> None:
    points, which = blobs(7)  # so few that the most groups are three
    if of_classes:
        annotations = annotated(attribute_vectors=None, attributes=points.T)
    else:
        annotations = annotated(attribute_vectors=points)
    found = shown(cluster_groups(annotations))
    assert list(found) == ["cluster 1", "cluster 2", "cluster 3"]
    assert sorted(found.values()) == sorted(np.flatnonzero(which == one).tolist() for one in range(3))


def test_clusters_are_at_most_six_and_the_same_every_time() -> None:
    annotations = annotated(count=40)
    assert shown(cluster_groups(annotations)) == shown(cluster_groups(annotations))
    assert 2 <= len(shown(cluster_groups(annotations))) <= 6


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_attributes_are_one_group(count: int) -> None:
    assert shown(choose_groups(annotated(count=count))) == {"all": list(range(count))}


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
def test_extreme_vectors_are_clustered(scale: float) -> None:
    vectors = np.random.RandomState(0).randn(9, 4)
    vectors[2] = 0
    found = cluster_groups(annotated(count=9, attribute_vectors=vectors * scale))
    assert is_partition(found.groups, 9)


def test_json_gives_the_groups_back() -> None:
    groups = collect_groups("here", ["b", "a", "b"])
    stored = json.loads(json.dumps(groups.as_json()))
    assert stored["groups"] == [{"name": "b", "attributes": [1, 3]}, {"name": "a", "attributes": [2]}]
    back = AttributeGroups.from_json(stored, 3, Path("manifest.json"))
    assert (back.source, shown(back)) == ("here", shown(groups))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"source": "x"},
        {"source": "x", "groups": {}},
        {"source": 1, "groups": []},
        *(
            {"source": "x", "groups": groups}
            for groups in (
                [1],
                [{"name": "a"}],
                [{"name": 1, "attributes": [1, 2, 3]}],
                [{"name": "a", "attributes": [1.0, 2, 3]}],
                [{"name": "a", "attributes": [True, 2, 3]}],
                [{"name": "a", "attributes": [10**30]}],
                [{"name": "a", "attributes": 3}],
            )
        ),
    ],
)
def test_damaged_groups_are_refused(stored: Any) -> None:
    with pytest.raises(
        RunError, match=r"^manifest\.json: damaged, the attribute groups cannot be read; train"
    ):
        AttributeGroups.from_json(stored, 3, Path("manifest.json"))


@pytest.mark.parametrize(
    "numbers", [[[1, 2]], [[1, 2, 3], [3]], [[1, 2, 3], []], [[1, 3, 2]], [[1, 2, 3, 4]], []]
)
def test_groups_that_are_no_partition_are_refused(numbers: list[list[int]]) -> None:
    stored = {"source": "x", "groups": [{"name": "a", "attributes": one} for one in numbers]}
    with pytest.raises(RunError, match="do not hold each of 3 attributes once"):
        AttributeGroups.from_json(stored, 3, Path("manifest.json"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "groups.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_a_file_takes_names_numbers_and_what_spreadsheets_add(write: Callable[..., Path]) -> None:
    path = write('\ufeffAttribute,Group,\r\n "beak,\r\nlong", Head ,\r\n\r\n,,\r\n1,wing\r\ngröße,Head\r\n')
    names = ("wing", "beak, long", "gro\u0308ße")
    assert shown(read_groups(path, names, 3)) == {"wing": [0], "Head": [1, 2]}


def test_a_name_goes_before_a_number(write: Callable[..., Path]) -> None:
    assert shown(read_groups(write("attribute,group\n1,a\n2,b\n"), ("2", "1"), 2)) == {"b": [0], "a": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "groups.csv: is empty, expected the header"),
        ("\n,\n", "groups.csv: is empty, expected the header"),
        ("group,attribute\n", "csv:1: the first cell is 'group', expected the header 'attribute,group'"),
        ("attribute;group\n", "csv:1: cells are separated by semicolons; save it with commas"),
        ("attribute,group\nwing color: red,a,b\n", "csv:2: has 3 cells, the header 2"),
        (
            "attribute,group\n\nwing color: reed,a\n",
            "csv:3: there is no attribute 'wing color: reed'; did you mean 'wing color: red'",
        ),
        ("attribute,group\nxyz,a\n", "csv:2: there is no attribute 'xyz'; 'msdn data groups' lists"),
        ("attribute,group\n0,a\n", "csv:2: there is no attribute '0'; .*numbers run from 1 to 5"),
        ("attribute,group\n6,a\n", "csv:2: there is no attribute '6'; .*numbers run"),
        (f"attribute,group\n{'9' * 5000},a\n", "csv:2: there is no attribute '9{60}…'; .*numbers run"),
        ("attribute,group\n-1,a\n", "csv:2: there is no attribute '-1'"),
        ("attribute,group\n²,a\n", "csv:2: there is no attribute '²'"),
        ("attribute,group\nsize: small,a\n5,b\n", "csv:3: attribute '5' is in line 2 already; keep one"),
        ("attribute,group\n1,\n", "csv:2: attribute '1' has no group"),
        ("attribute,group\n1\n", "csv:2: has 1 cells, the header 2"),
        ("attribute,group\n,a\n", "csv:2: there is no attribute ''"),
        (
            "attribute,group\n1,a\n2,b\n4,b\n",
            "groups.csv: has no row for 'tail shape: long', 'size: small'; every",
        ),
        ("attribute,group\n", "groups.csv:1: has a header but no rows"),
        ('attribute,group\n1,a\n2,"b\n', "csv:3: the row that starts here cannot be read"),
        ("attribute,group\n1,\x1b[2J\n", r"csv:2: '1','\\x1b\[2J' has odd characters"),
        ("attribute,group\n1,a\0\n", "csv:2: contains a zero byte"),
        (b"attribute,group\n1,a\n2,\xff\n", "csv:3: byte 0xFF is not UTF-8; save it as UTF-8"),
        (b"\xff\xfea\0,\0", "csv:1: is UTF-16 text; save it as UTF-8"),
        (b"a" * (5 * 2**20), "groups.csv: is larger than 4 MiB"),
    ],
)
def test_mistakes_in_a_file_are_named(write: Callable[..., Path], content: str | bytes, message: str) -> None:
    with pytest.raises(GroupsError, match=message) as error:
        read_groups(write(content), NAMES, 5)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_without_names_numbers_count(write: Callable[..., Path]) -> None:
    with pytest.raises(
        GroupsError, match=r"no attribute 'wing'; the dataset has no names .* numbers run from 1 to 2"
    ):
        read_groups(write("attribute,group\nwing,a\n"), (), 2)
    with pytest.raises(GroupsError, match=r"has no row for 2, 3, 4, 5, 6 and 3 more"):
        read_groups(write("attribute,group\n1,a\n"), (), 9)


def test_a_shared_name_tells_nothing(write: Callable[..., Path]) -> None:
    with pytest.raises(
        GroupsError, match=r"csv:2: there is no attribute 'red'; .*no names that tell them apart"
    ):
        read_groups(write("attribute,group\nred,a\n"), ("red", "red"), 2)


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        (),
        ("red", "red", "3", "2", "1"),
        ("3", "2", "1", "5", "4"),
        ("a\nb", "b", "c", "d", "e"),
        ('"', ", ", "=1+1", " x", "é"),
    ],
)
def test_a_written_file_gives_the_groups_back(tmp_path: Path, names: tuple[str, ...]) -> None:
    groups = collect_groups("here", ["b, c", "a", "b, c", 'd "e"', "a"])
    write_groups(tmp_path / "out.csv", groups, names)
    assert shown(read_groups(tmp_path / "out.csv", names, 5)) == shown(groups)


@pytest.fixture
def cached(make_cache: Callable[..., Path]) -> None:
    """A cache in the home."""
    make_cache(annotations=annotated((*NAMES, "[red]size: big")))


@pytest.mark.usefixtures("cached")
def test_the_command_shows_the_groups(run_msdn: Callable[..., Result]) -> None:
    done = run_msdn("data", "groups", "toy")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["│", "wing", "│", "2", "│", "wing", "color:", "red,", "wing", "color:", "blue", "│"] in lines
    assert "[red]size: big" in done.stdout
    assert "source: prefixes of the attributes' names" in done.stdout


@pytest.mark.usefixtures("cached")
def test_the_command_writes_a_file_to_give_back(run_msdn: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    first = run_msdn("data", "groups", "toy", "--csv", out, "--json")
    assert first.exit_code == 0, first.output
    assert out.read_text().splitlines()[:2] == ["attribute,group", "wing color: red,wing"]
    out.write_text(out.read_text().replace(",tail", ",end"))
    second = json.loads(run_msdn("data", "groups", "toy", "--groups", out, "--json").stdout)
    assert second["source"] == "file mine.csv" and second["dataset"] == "toy"
    before = json.loads(first.stdout)["groups"]
    assert second["groups"] == [{**one, "name": one["name"].replace("tail", "end")} for one in before]


@pytest.mark.usefixtures("cached")
def test_the_command_overwrites_nothing(run_msdn: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.write_text("dear to me")
    done = run_msdn("data", "groups", "toy", "--csv", out)
    assert done.exit_code == 1
    assert "mine.csv: exists already" in done.stderr
    assert out.read_text() == "dear to me"


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["cub"], "no cache of 'cub'"),
        (["toy", "--groups", "nowhere.csv"], "nowhere.csv: No such file"),
        (["toy", "--groups", "."], "Is a directory"),
        (["toy", "--csv", "no/such/folder.csv"], "folder.csv: there is no folder no/such"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(
    run_msdn: Callable[..., Result], args: list[str], message: str
) -> None:
    done = run_msdn("data", "groups", *args)
    assert done.exit_code == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_long_name_is_not_wrapped_in_a_pipe(
    make_cache: Callable[..., Path], run_msdn: Callable[..., Result]
) -> None:
    long = [f"wing color: {'deep ' * 4}{color}" for color in ("red", "blue", "green")]
    make_cache(annotations=annotated((*long, "tail: short", "tail: long")))
    shown = run_msdn("data", "groups", "toy").stdout
    assert any(all(name in line for name in long) for line in shown.splitlines())
