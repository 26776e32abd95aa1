"""`import msdn`: six functions, there at once, silent, and errors that a caller can catch."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from toy_dataset import TOY, write_toy_dataset

import msdn
from msdn.cache.annotations import Annotations
from msdn.extract.datasets import registry

FUNCTIONS = {"open_cache", "extract", "train", "evaluate", "predict", "load_run"}


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", timeout=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the toy dataset and its features."""
    home = tmp_path_factory.mktemp("library") / "home"
    write_toy_dataset(home / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "toy", TOY)
        told: list[int] = []
        done = msdn.extract(
            "toy",
            weights="random",
            device="cpu",
            threads=1,
            home=home,
            on_progress=lambda progress: told.append(progress.done),
        )
    assert told[-1] == 30
    assert done.path == home / "features/toy-224-random.h5" and done.weights_kind == "random"
    return home


@pytest.fixture(scope="module")
def run(place: Path) -> msdn.Run:
    records: list[dict] = []
    choices = {"model": "baseline", "epochs": 3, "batch_size": 8}
    run = msdn.train("toy", **choices, threads=1, device="cpu", on_epoch=records.append, home=place)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    return run


def test_importing_loads_nothing_heavy() -> None:
    run_python(
        "import sys, msdn\n"
        f"assert {FUNCTIONS!r} | {{'MsdnError'}} <= set(msdn.__all__) <= set(dir(msdn))\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'rich', 'h5py', 'scipy', 'click'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


@pytest.mark.parametrize(
    "first", ["import msdn.train.runs.run, msdn.extract.pipeline.extraction", "msdn.open_cache"]
)
def test_the_stages_are_packages_and_functions_whatever_is_imported_first(first: str) -> None:
    run_python(
        f"import msdn\n{first}\nimport msdn.extract.pipeline.settings\n"
        "assert callable(msdn.extract) and callable(msdn.train)\n"
        "assert msdn.extract.pipeline.settings.DTYPES\n"
        "from msdn.app import library\nimport inspect\n"
        "assert inspect.signature(msdn.train) == inspect.signature(library.train)"
    )


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in msdn.__all__:
        assert getattr(msdn, name).__doc__, name
    with pytest.raises(AttributeError, match="evalute"):
        msdn.evalute  # noqa: B018


def test_the_options_are_those_of_the_command_line() -> None:
    """What a command can be told, its function can, but for what only a terminal needs."""
    from msdn.cli import main

    renamed = {
        "extract": {},
        "evaluate": {"run_path": "run"},
        "predict": {"run_path": "run", "file": "classes"},
    }
    elsewhere = {
        "extract": set(),
        "evaluate": {
            "gzsl",
            "czsl",
            "checkpoint",
            "dataset",
            "model",
            "alpha",
            "groups",
            "out",
            "predictions",
        },
        "predict": {"dataset", "model", "cache", "rows", "csv_path"},
    }
    everywhere = {"as_json", "quiet", "verbose", "config"}
    for name, names in renamed.items():
        command = main.get_command(None, name)  # type: ignore[arg-type]
        options = {names.get(one.name, one.name) for one in command.params} - elsewhere[name] - everywhere
        assert options <= set(inspect.signature(getattr(msdn, name)).parameters), name


def test_the_whole_way(place: Path, run: msdn.Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run.finished and run.settings.epochs == 3 and run.manifest["overrides"]["epochs"] == 3
    with msdn.open_cache("toy", home=str(place)) as cache:
        assert run.is_of(cache)
    assert msdn.load_run(home=place).path == run.path == msdn.load_run(run.path.name, home=place).path
    figures = msdn.evaluate(home=place, device="cpu", threads=1)
    assert figures["run"] == str(run.path) and 0 <= figures["H"] <= 100 and run.results.is_file()
    folder = place / "data/TOY/images"
    found = msdn.predict(folder, home=place, top=2, device="cpu", threads=1)
    assert len(found) == len(list(folder.rglob("*.jpg"))) and {len(one.classes) for one in found} == {2}
    assert capfd.readouterr() == ("", ""), "a library is silent"


def test_a_new_class_like_a_known_one(place: Path, run: msdn.Run, tmp_path: Path) -> None:
    with msdn.open_cache(place / "features/toy-224-random.h5") as cache:
        a: Annotations = cache.annotations
    first, image = a.class_names[0], place / "data/TOY/images" / a.image_paths[0]
    (known,) = msdn.predict([image], run=run, home=place, device="cpu", threads=1, margin=0, top=99)
    scores = {one.name: one.score for one in known.classes}
    row = tmp_path / "new.csv"
    columns, values = ",".join(a.attribute_names), ",".join(map(repr, a.attributes[0].tolist()))
    row.write_text(f"class,{columns}\nnewcomer,{values}\n")
    (told,) = msdn.predict(
        image, run=run.path, classes=row, drop=[first], home=place, device="cpu", margin=0, top=99
    )
    new = next(one for one in told.classes if one.name == "newcomer")
    assert (new.kind, new.score) == ("new", scores[first])
    changes = {a.attribute_names[0]: float(a.attributes[0, 0])}
    same = msdn.predict(
        image,
        run=run,
        like=first,
        changes=changes,
        name="twin",
        only=True,
        home=place,
        device="cpu",
        margin=0,
    )
    assert [(one.name, one.score) for one in same[0].classes] == [("twin", scores[first])]


def test_a_bad_image_is_told_or_stops(place: Path, run: msdn.Run, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad, good = msdn.predict(tmp_path, run=run, home=place, device="cpu")
    assert bad.error and not bad.classes and good.classes and not good.error
    with pytest.raises(msdn.MsdnError, match=r"bad\.png"):
        msdn.predict(tmp_path, run=run, home=place, device="cpu", strict=True)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda home: msdn.open_cache("cub", home=home), "cub"),
        (lambda home: msdn.open_cache("nowhere.h5", home=home), r"nowhere\.h5"),
        (lambda home: msdn.extract("cup", home=home), "cub"),
        (lambda home: msdn.extract("plumage", precision="float12", home=home), "float16"),
        (lambda home: msdn.extract("plumage", batch_size=0, home=home), "batch_size is 0"),
        (lambda home: msdn.train("toy", model="msnd", home=home), "'msdn'"),
        (lambda home: msdn.train("toy", epohcs=3, home=home), "epohcs"),
        (lambda home: msdn.train("toy", epochs="3", home=home), "epochs"),
        (lambda home: msdn.load_run("nothing", home=home), "nothing"),
        (lambda home: msdn.evaluate(margin=float("nan"), home=home), "margin"),
        (lambda home: msdn.predict("gone.png", like="x", home=home), "changes"),
        (lambda home: msdn.predict("gone.png", top=0, home=home), "top is 0"),
        (lambda home: msdn.predict("gone.png", among="new", home=home), "unseen"),
        (lambda home: msdn.predict("gone.png", reject=2, home=home), "reject is 2"),
    ],
)
def test_what_cannot_be_is_an_msdn_error(place: Path, call: Callable[[Path], object], said: str) -> None:
    with pytest.raises(msdn.MsdnError, match=said):
        call(place)


def test_home_is_the_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSDN_HOME", raising=False)
    with pytest.raises(msdn.MsdnError, match="msdn-home/runs"):
        msdn.load_run()
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "other"))
    with pytest.raises(msdn.MsdnError, match="other/runs"):
        msdn.load_run()
