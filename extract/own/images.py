"""Lists the images of `images/<class>/…` and of `images/*.tar`, and tells which of them cannot be opened."""

import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import UnidentifiedImageError

from msdn.cache.csv_table import is_odd, quote
from msdn.extract.opening import HEIF_ENDINGS, can_read, find_unreadable_kinds, open_image
from msdn.extract.own.mistakes import Mistake
from msdn.extract.own.samples import list_samples
from msdn.extract.tars import ENDING, size_of

ENDINGS = ("jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp", *HEIF_ENDINGS)
JUNK = {"thumbs.db", "desktop.ini", "__macosx"}  # left by other systems, as are hidden files


@dataclass(frozen=True)
class ImageList:
    """The images below a folder.

    Attributes:
        paths: their paths relative to that folder, with `/`, sorted; the first part is the class folder, or a tar.
        classes: the class of each.
        folders: the classes' own spellings, sorted: their folders, those without images too.
    """

    paths: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def spell(name: str) -> str:
    """The name of a class folder, spelt as CSV files are read."""
    return unicodedata.normalize("NFC", name)


def list_images(root: Path, class_names: Sequence[str], found: list[Mistake]) -> ImageList:
    """List the images below `root`; what is no image, or cannot be one, is named in `found`.

    `class_names` are what a tar may name by number.
    """
    folders: list[str] = []
    classes: dict[str, str] = {}
    for folder in sorted(entry for entry in root.iterdir() if not _is_junk(entry.name)):
        name = folder.name
        if is_odd(name) or name != name.strip():
            found.append(
                Mistake(folder, "the name has odd characters, or spaces at an end; rename the folder")
            )
        elif folder.is_dir():
            folders.append(name)
            classes |= {f"{name}/{path}": spell(name) for path in _list_class(folder, found)}
        elif folder.suffix == ENDING and folder.is_file():
            samples = list_samples(folder, ENDINGS, class_names, found)
            classes |= {f"{name}/{path}": of for path, of in samples}
        elif folder.is_symlink() and not folder.exists():
            found.append(Mistake(folder, "is a link to a folder that is not there"))
        else:
            advice = "move it into the folder of its class"
            found.append(Mistake(folder, f"is outside the class folders; {advice}"))
    found += _find_twins(root, folders)
    paths = sorted(classes)
    spelt = {spell(name) for name in folders}
    folders += sorted({name for name in classes.values() if name not in spelt})
    return ImageList(tuple(paths), tuple(classes[path] for path in paths), tuple(folders))


def _list_class(folder: Path, found: list[Mistake]) -> list[str]:
    """List a class's images relative to its folder, which may be a link; folders deeper down may not."""
    paths: list[str] = []

    def complain(error: OSError) -> None:
        found.append(Mistake(Path(error.filename), f"the folder cannot be opened ({error.strerror})"))

    for top, inner, files in os.walk(folder, onerror=complain):
        place = Path(top)
        inner[:] = [name for name in inner if not _is_junk(name)]
        for link in (place / name for name in inner if (place / name).is_symlink()):
            found.append(Mistake(link, "is a link to a folder, which is not followed; copy the folder"))
        for file in (place / name for name in files if not _is_junk(name)):
            path = file.relative_to(folder).as_posix()
            complaint = _complain_of_name(path) or _complain_of_kind(file)
            if complaint:
                found.append(Mistake(file, complaint))
            else:
                paths.append(path)
    found += _find_twins(folder, sorted(paths))
    return paths


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _complain_of_name(path: str) -> str:
    if is_odd(path):
        return "the file's name has odd characters; rename it"
    if Path(path).suffix.lower().removeprefix(".") not in ENDINGS:
        return f"does not have the ending of an image ({', '.join(ENDINGS)}); convert or move it"
    return ""


def _complain_of_kind(file: Path) -> str:
    if not file.exists():
        return "is a link to a file that is not there"
    if not file.is_file():
        return "is neither a file nor a folder; remove it"
    return ""


def _find_twins(root: Path, names: Iterable[str]) -> Iterator[Mistake]:
    """Find names that are the same to a file system which ignores case."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            difference = "upper and lower case, or the spelling of accents"
            yield Mistake(root / name, f"only {difference} differ from {quote(other)}; rename one")


def find_unreadable(root: Path, paths: Iterable[str]) -> list[Mistake]:
    """Open the header of every image, not its pixels, and name those that are no images inside."""
    files = [root / path for path in paths]
    unread = find_unreadable_kinds(files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large pictures and odd EXIF are usable
        complaints = [(file, _complain_of_content(file)) for file in files if can_read(file)]
    named = [Mistake(file, complaint) for file, complaint in complaints if complaint]
    return [Mistake(root, unread), *named] if unread else named


def _complain_of_content(file: Path) -> str:
    try:
        if not size_of(file):
            return "the image file is empty; copy it again"
        with open_image(file):
            return ""
    except UnidentifiedImageError:
        return "is named as an image but is not one; save it again as JPEG or PNG"
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"the image cannot be opened ({reason})"
