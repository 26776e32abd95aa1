"""A good little dataset of one's own: four classes, three images each, four attributes."""

from pathlib import Path

from PIL import Image

ATTRIBUTES = """\
class,wing colour: red,wing colour: blue,size: small,"beak, long"
crane,1,0,0.25,1
heron,0,1,0,1
robin,1,0,1,0
wren,0.5,0.5,1,0.75
"""
CLASSES = ("crane", "heron", "robin", "wren")
SPLIT_OF = {"crane": "test_unseen", "heron": "val", "robin": "train", "wren": "train"}


def write_folder(folder: Path, classes: tuple[str, ...] = CLASSES, per_class: int = 3) -> Path:
    """Write images and attributes.csv; there are no splits.csv and no vectors."""
    for number, name in enumerate(classes):
        for image in range(1, per_class + 1):
            write_image(folder / "images" / name / f"{image}.png", number)
    (folder / "attributes.csv").write_text(ATTRIBUTES)
    return folder


def write_image(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)


def image_splits(**changed: str) -> str:
    """A splits.csv of that dataset that lists images; `crane_1="val"` changes or (with "") leaves out one."""
    lines = ["image,split"]
    for name in CLASSES:
        for image in (1, 2, 3):
            split = "test_seen" if image == 3 and name != "crane" else SPLIT_OF[name]
            split = changed.get(f"{name}_{image}", split)
            lines += [f"{name}/{image}.png,{split}"] if split else []
    return "\n".join(lines) + "\n"
