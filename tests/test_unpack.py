"""Archives that would harm: each is refused with a sentence, and nothing outside the folder is touched."""

import gzip
import io
import random
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msdn.extract.downloads import unpack as unpacking
from msdn.extract.downloads.sources import Source
from msdn.extract.downloads.unpack import SLACK, unpack
from msdn.extract.errors import ArchiveError

EVERYTHING = ((r".+", r"\g<0>"),)
ROOM = 100_000
Refusal = tuple[bytes, str]
GOOD = {"a/b.txt": b"b" * 5000, "c.txt": random.Random(1).randbytes(40_000)}


def try_unpack(
    tmp_path: Path, name: str, archive: bytes, rules: tuple = EVERYTHING, room: int = ROOM
) -> tuple[int, int]:
    """Unpack inside `tmp_path/around/folder`, and see that nothing beside that folder appears."""
    around = tmp_path / "around"
    (around / "folder").mkdir(parents=True)
    (around / name).write_bytes(archive)
    before = look(tmp_path, without=around / "folder")
    try:
        return unpack(around / name, Source(name, (), ("a",), rules, room=room), around / "folder")
    finally:
        assert look(tmp_path, without=around / "folder") == before
        assert not Path("/msdn-escaped").exists()
        for path in (around / "folder").rglob("*"):
            assert path.is_dir() or path.is_file()
            assert not path.is_symlink()


def look(folder: Path, without: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if not path.is_relative_to(without)
    }


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "x.zip": lambda files: zipped(*files.items()),
    "x.tgz": lambda files: tarred(*((tar_entry(name), content) for name, content in files.items())),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_good_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    count = try_unpack(tmp_path, name, MAKERS[name]({f"./{path}": content for path, content in GOOD.items()}))
    assert count == (2, 45_000)
    for path, content in GOOD.items():
        assert (tmp_path / "around/folder" / path).read_bytes() == content


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "member, sentence",
    [
        ("../escaped", "leads out of the folder: '../escaped'"),
        ("a/../../escaped", "leads out of the folder"),
        ("a/..", "leads out of the folder"),
        ("/msdn-escaped", "absolute path: '/msdn-escaped'"),
        ("//msdn-escaped", "absolute path"),
        ("C:/escaped", "absolute path: 'C:/escaped'"),
        ("c:escaped", "absolute path"),
        ("..\\escaped", "holds a backslash"),
        ("a\\..\\..\\escaped", "holds a backslash"),
        ("a\nb", r"not plain text: 'a\nb'"),
        ("a\x1b[2Jb", r"not plain text: 'a\x1b[2Jb'"),
    ],
)
@pytest.mark.parametrize("is_wanted", [True, False])
def test_names_that_lead_out_are_refused_wanted_or_not(
    tmp_path: Path, name: str, member: str, sentence: str, is_wanted: bool
) -> None:
    rules = EVERYTHING if is_wanted else (("wanted", "wanted"),)
    with pytest.raises(ArchiveError, match=f"^{name} is refused: .*{re.escape(sentence)}"):
        try_unpack(tmp_path, name, MAKERS[name]({member: b"x"}), rules)
    assert not list((tmp_path / "around/folder").iterdir())


@pytest.mark.parametrize(
    "kind, link, sentence",
    [
        (tarfile.SYMTYPE, "../../escaped", "a member is a link: 'a' -> '../../escaped'"),
        (tarfile.SYMTYPE, "/etc", "a member is a link: 'a' -> '/etc'"),
        (tarfile.SYMTYPE, "b", "a member is a link"),
        (tarfile.LNKTYPE, "../../x.tgz", "a member is a link"),
        (tarfile.LNKTYPE, "b", "a member is a link"),
        (tarfile.CHRTYPE, "", "neither file nor folder: 'a'"),
        (tarfile.BLKTYPE, "", "neither file nor folder"),
        (tarfile.FIFOTYPE, "", "neither file nor folder"),
        (tarfile.CONTTYPE, "", "neither file nor folder"),
        (b"?", "", "neither file nor folder"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(
    tmp_path: Path, kind: bytes, link: str, sentence: str
) -> None:
    archive = tarred((tar_entry("a", kind, link), b""), (tar_entry("a/escaped"), b"through the link"))
    with pytest.raises(ArchiveError, match=f"^x.tgz is refused: .*{re.escape(sentence)}"):
        try_unpack(tmp_path, "x.tgz", archive)
    assert not list((tmp_path / "around/folder").iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    archive = zipped(("first", b"x"), (zip_entry("a", kind | 0o777), b"../../escaped"), ("a/escaped", b"y"))
    with pytest.raises(ArchiveError, match=r"^x.zip is refused: a member is a link or a device: 'a'"):
        try_unpack(tmp_path, "x.zip", archive)
    assert not list((tmp_path / "around/folder").iterdir())


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    info = tar_entry("a")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    with pytest.raises(ArchiveError, match="neither file nor folder: 'a'"):
        try_unpack(tmp_path, "x.tgz", tarred((info, b"x")))


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_place_are_refused(tmp_path: Path, name: str, names: tuple[str, str]) -> None:
    if name == "x.zip":
        archive = zipped(*((member, b"x") for member in names))
    else:
        archive = tarred(*((tar_entry(member), b"x") for member in names))
    with pytest.raises(ArchiveError, match="two members go to the same place: 'a"):
        try_unpack(tmp_path, name, archive)


@pytest.mark.parametrize("name", MAKERS)
def test_a_size_bomb_is_refused(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name]({"small": b"x", "bomb": bytes(SLACK * ROOM)})
    assert len(archive) < 2000
    with pytest.raises(ArchiveError, match=r"is refused: unpacks to more than the 0.00 GB that are allowed"):
        try_unpack(tmp_path, name, archive)
    assert sum(path.stat().st_size for path in (tmp_path / "around/folder").iterdir()) <= 1


def test_a_zip_that_lies_about_sizes_writes_no_more_than_it_declared(tmp_path: Path) -> None:
    archive = zipped(("bomb", bytes(SLACK * ROOM)))
    lie = archive.replace(struct.pack("<L", SLACK * ROOM), struct.pack("<L", 10))
    assert lie != archive
    with pytest.raises(ArchiveError, match=r"x.zip is damaged or cut short .*CRC"):
        try_unpack(tmp_path, "x.zip", lie)
    assert (tmp_path / "around/folder/bomb").stat().st_size <= 10


def test_an_unwanted_bomb_in_a_tar_is_refused_too(tmp_path: Path) -> None:
    archive = MAKERS["x.tgz"]({"unwanted": bytes(SLACK * ROOM)})
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        try_unpack(tmp_path, "x.tgz", archive, rules=(("wanted", "wanted"),))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tar_entry("a", kind)
    info.size = 2**40
    archive = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
    with pytest.raises(ArchiveError, match=r"is refused: a header of 1099511627776 bytes"):
        try_unpack(tmp_path, "x.tgz", archive)


@pytest.mark.parametrize("size", ["-5000", "-1"])
def test_a_header_that_points_backwards_is_refused(tmp_path: Path, size: str) -> None:
    info = tar_entry("a")
    info.pax_headers = {"size": size}
    with pytest.raises(ArchiveError, match=r"x.tgz is (refused|damaged)"):
        try_unpack(tmp_path, "x.tgz", tarred((info, b"")))


@pytest.mark.parametrize("name", MAKERS)
def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 10)
    with pytest.raises(ArchiveError, match="is refused: more than 10 members"):
        try_unpack(tmp_path, name, MAKERS[name]({str(n): b"" for n in range(11)}))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped(("a", b"x")))
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveError, match="a member is encrypted: 'a'"):
        try_unpack(tmp_path, "x.zip", bytes(archive))


def test_a_name_that_hides_behind_a_nul_is_refused(tmp_path: Path) -> None:
    archive = zipped(("a.jpgX../escaped", b"x")).replace(b"a.jpgX", b"a.jpg\0")
    with pytest.raises(ArchiveError, match=r"not plain text: 'a.jpg\\x00../escaped'"):
        try_unpack(tmp_path, "x.zip", archive)


@pytest.mark.parametrize("name", MAKERS)
def test_rights_are_plain_whatever_the_archive_says(tmp_path: Path, name: str) -> None:
    if name == "x.zip":
        archive = zipped((zip_entry("a", stat.S_IFREG | 0o6777), b"x"), (zip_entry("b", stat.S_IFREG), b"y"))
    else:
        archive = tarred((tar_entry("a", mode=0o6777), b"x"), (tar_entry("b", mode=0), b"y"))
    try_unpack(tmp_path, name, archive)
    for member in ("a", "b"):
        mode = stat.S_IMODE((tmp_path / "around/folder" / member).stat().st_mode)
        assert mode & 0o600 == 0o600
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | 0o133)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_archive_is_named(tmp_path: Path, name: str, part: float) -> None:
    archive = MAKERS[name](GOOD)
    with pytest.raises(ArchiveError, match=rf"^{name} is damaged or cut short \("):
        try_unpack(tmp_path, name, archive[: int(part * len(archive))])


def test_a_damaged_header_in_the_middle_does_not_end_a_tar_silently(tmp_path: Path) -> None:
    plain = bytearray(gzip.decompress(MAKERS["x.tgz"](GOOD)))
    plain[plain.index(b"c.txt")] ^= 1
    with pytest.raises(ArchiveError, match="is refused: a header is damaged"):
        try_unpack(tmp_path, "x.tgz", gzip.compress(bytes(plain)))


@pytest.mark.parametrize("name", MAKERS)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_ends_right_or_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[tuple[float, int]]
) -> None:
    archive = bytearray(MAKERS[name](GOOD) if name == "x.zip" else gzip.decompress(MAKERS[name](GOOD)))
    for place, value in edits:
        archive[int(place * len(archive))] = value
    content = bytes(archive) if name == "x.zip" else gzip.compress(bytes(archive), 1)
    folder = tmp_path_factory.mktemp("damage")
    try:
        files, size = try_unpack(folder, name, content)
    except ArchiveError as error:
        assert str(error).startswith(f"{name} is ")
    else:
        found = [path for path in (folder / "around/folder").rglob("*") if path.is_file()]
        assert (len(found), sum(path.stat().st_size for path in found)) == (files, size)
