"""A small text file of word vectors, laid out as GloVe's."""

from pathlib import Path

GLOVE = "wing 1 0 2\nred 0 1 0\ncolor 4 4 4\nman-made 0 0 1\nman 9 9 9\nmade 8 8 8\nall 1 1 1\n"


def text_file(tmp_path: Path, text: str | bytes = GLOVE, name: str = "glove.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
