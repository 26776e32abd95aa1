"""Ways to damage a file: bytes anywhere, or one part of its structure with the checks around it repaired.

Every function takes a generator and the content, and returns the damaged content.
"""

import io
import json
import pickletools
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from random import Random
from typing import Any

Region = tuple[int, int]
Mutator = Callable[[Random, bytes], bytes]
EDGES = (0, 1, 2, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
TEXTS = (
    "",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "\x1b[31m",
    "\udc80",
    "=1+1",
    "é" * 300,
    "NaN",
    "1e999",
    "-0",
    "�",
)


def damage_bytes(rng: Random, content: bytes, region: Region | None = None) -> bytes:
    """Change bytes within a region; the rest stays, but for what a cut or an insertion shifts."""
    start, end = region or (0, len(content))
    end = min(end, len(content))
    if end <= start:
        return content + rng.randbytes(4)
    place = rng.randrange(start, end)
    run = min(end - place, rng.choice((1, 2, 4, 8, 16, 64, 512)))
    before, inside, after = content[:place], content[place : place + run], content[place + run :]
    size = rng.choice((1, 2, 4, 8))
    other = rng.randrange(start, end)
    number = (rng.choice(EDGES) % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
    ways = {
        "bit": before + bytes([inside[0] ^ (1 << rng.randrange(8))]) + inside[1:] + after,
        "number": (before + number + content[place + size :])[: len(content)],
        "noise": before + rng.randbytes(run) + after,
        "zeros": before + bytes(run) + after,
        "gap": before + after,
        "twice": before + inside + inside + after,
        "cut": content[:place],
        "swap": before + content[other : other + run] + after,
    }
    return ways[rng.choices(list(ways), (3, 3, 1, 1, 1, 1, 1, 1))[0]]


def in_regions(find: Callable[[bytes], Sequence[Region]]) -> Mutator:
    """Choose one of a format's parts first, so that small ones are hit as often as large ones."""

    def damage(rng: Random, content: bytes) -> bytes:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            regions = [one for one in find(content) if one[1] > one[0]]
            content = damage_bytes(rng, content, rng.choice(regions) if regions else None)
        return content

    return damage


def behind(magic: int) -> Mutator:
    """Anywhere but in the first bytes."""
    return in_regions(lambda content: [(min(magic, len(content)), len(content))])


# JSON -------------------------------------------------------------------------------------------------------------


def damage_json(rng: Random, content: bytes) -> bytes:
    """Change one value, name or shape somewhere in a tree of JSON."""
    tree = json.loads(content)
    nodes: list[tuple[Any, Any]] = []
    _collect(tree, nodes)
    holder, key = rng.choice(nodes)
    value = holder[key]
    match rng.randrange(9):
        case 0 | 1 if isinstance(value, (int, float)):
            holder[key] = rng.choice(
                (-value, value + 1, value * 10, value / 7, 1e300, 2**70, -1, float("nan"))
            )
        case 2:
            holder[key] = rng.choice((None, True, [], {}, "", 0, -1, 1e999, [[]], {"a": 1}, *TEXTS))
        case 3 if isinstance(holder, dict):
            del holder[key]
        case 4 if isinstance(holder, dict):
            holder[rng.choice((key + "x", key[:-1], *TEXTS))] = holder.pop(key)
        case 5:
            other, place = rng.choice(nodes)
            holder[key], other[place] = other[place], holder[key]
        case 6 if isinstance(value, str) and value:
            place = rng.randrange(len(value))
            holder[key] = value[:place] + rng.choice(("", "0", "\x1b", "\udc80")) + value[place + 1 :]
        case 7:
            holder[key] = json.loads("[" * 60 + "]" * 60)
        case _:
            holder[key] = [value, value]
    try:
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):  # it now holds itself
        return content


def _collect(tree: Any, nodes: list[tuple[Any, Any]]) -> None:
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        nodes.append((tree, key))
        if isinstance(tree[key], (dict, list)):
            _collect(tree[key], nodes)


def flip_digit(rng: Random, content: bytes) -> bytes:
    """Change one digit of the text, whatever it belongs to."""
    places = [found.start() for found in re.finditer(rb"[0-9]", content)]
    place = rng.choice(places)
    digit = str((int(content[place : place + 1]) + rng.randrange(1, 10)) % 10).encode()
    return content[:place] + digit + content[place + 1 :]


def sealed_again(mutator: Mutator) -> Mutator:
    """As somebody who knows the seal would write it."""

    def damage(rng: Random, content: bytes) -> bytes:
        damaged = mutator(rng, content)
        try:
            tree = json.loads(damaged)
            tree.pop("seal", None)
            tree["seal"] = sha256(
                json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
            ).hexdigest()
            return json.dumps(tree).encode()
        except (ValueError, AttributeError, TypeError, RecursionError):
            return damaged

    return damage


# archives ---------------------------------------------------------------------------------------------------------


def in_zip(inside: Mutator) -> Mutator:
    """Change one entry, and write the archive again with sizes and CRCs that fit."""

    def damage(rng: Random, content: bytes) -> bytes:
        end = content.rfind(b"PK\5\6") + 22
        with zipfile.ZipFile(io.BytesIO(content[:end])) as archive:
            entries = [(info, archive.read(info)) for info in archive.infolist()]
        chosen = rng.randrange(len(entries))
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for number, (info, data) in enumerate(entries):
                archive.writestr(info, inside(rng, data) if number == chosen else data)
        return made.getvalue() + content[end:]

    return damage


def damage_zip_names(rng: Random, content: bytes) -> bytes:
    """Give one entry another name, kind or size than it had, or two of them the same."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    info, _ = rng.choice(entries)
    match rng.randrange(4):
        case 0:
            name = rng.choice([*TEXTS, "a/../../b", "C:\\x", "x/", info.filename + "/y"])
            info.filename = name.encode(errors="replace").decode().replace("\0", "") or "x"
        case 1:
            info.external_attr = rng.choice((0o120777, 0o060644, 0o777, 0o4755)) << 16
        case 2:
            info.filename = rng.choice(entries)[0].filename
        case _:
            entries.append(rng.choice(entries))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for one, data in entries:
            archive.writestr(one, data)
    return made.getvalue()


def zip_parts(content: bytes) -> list[Region]:
    """Local headers, the directory, its end."""
    found = [
        (m.start() + 4, min(m.start() + 80, len(content)))
        for m in re.finditer(b"PK\1\2|PK\3\4|PK\5\6", content)
    ]
    return [*found, (4, len(content))]


def damage_tar(rng: Random, content: bytes) -> bytes:
    """Change a field of one header, and repair that header's checksum."""
    blocks = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    if not blocks:
        return damage_bytes(rng, content)
    at = rng.choice(blocks)
    header = bytearray(content[at : at + 512])
    match rng.randrange(5):
        case 0:
            text = rng.choice([*TEXTS, "a/../../b", "x/"]).encode(errors="replace")[:100]
            header[:100] = text.ljust(100, b"\0")
        case 1:
            header[124:136] = rng.choice(
                (b"77777777777\0", b"00000000000\0", b"-0000000001\0", b"\x80" + b"\xff" * 11)
            )
        case 2:
            header[156:157] = rng.choice(b"0123456789gxLKSDVMN").to_bytes(1, "big")
        case 3:
            header[157:257] = rng.choice((b"/etc/passwd", b"../x", b"\xff" * 100)).ljust(100, b"\0")
        case _:
            place = rng.randrange(512)
            header[place] = rng.randrange(256)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:at] + bytes(header) + content[at + 512 :]


def make_tar(members: dict[str, bytes]) -> bytes:
    """A plain tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def in_gzip(mutator: Mutator) -> Mutator:
    """Change what is packed, and pack it again."""
    return lambda rng, content: _gzip(mutator(rng, zlib.decompress(content, 31)))


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


# formats of their own ---------------------------------------------------------------------------------------------


def damage_png(rng: Random, content: bytes) -> bytes:
    """Change what one chunk of a PNG holds, and repair its CRC."""
    at, chunks = 8, []
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, data = chunks[number]
    if kind == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(damage_bytes(rng, zlib.decompress(data)))
    else:
        data = damage_bytes(rng, data)
    chunks[number] = (kind, data)
    made = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:8] + b"".join(made)


def damage_mat(rng: Random, content: bytes) -> bytes:
    """Change one variable of a MATLAB 5 file; where it is packed, within the packed bytes."""
    at, parts = 128, []
    while at + 8 <= len(content):
        kind, length = struct.unpack("<II", content[at : at + 8])
        parts.append((kind, content[at + 8 : at + 8 + length]))
        at += 8 + length
    number = rng.randrange(len(parts))
    kind, data = parts[number]
    data = (
        zlib.compress(_damage_element(rng, zlib.decompress(data)))
        if kind == 15
        else _damage_element(rng, data)
    )
    parts[number] = (kind, data)
    return content[:128] + b"".join(struct.pack("<II", k, len(d)) + d for k, d in parts)


def _damage_element(rng: Random, data: bytes) -> bytes:
    return damage_bytes(rng, data, (0, min(len(data), rng.choice((64, 256, len(data))))))


PAYLOADS = (
    b"cos\nsystem\n(S'touch canary'\ntR",
    b'cbuiltins\neval\n(S\'open("canary","w")\'\ntR',
    b"\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R",
    b"cpathlib\nPath\n(S'canary'\ntR",
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR",
    b"cnumpy\nload\n(S'canary'\ntR",
    b"cposixpath\njoin\n(S'a'\ntR",
)


def damage_pickle(rng: Random, content: bytes) -> bytes:
    """Leave out, repeat, swap or change instructions, or put some in that ask for code to be run."""
    try:
        places = [place or 0 for _, _, place in pickletools.genops(content)] + [len(content)]
    except Exception:  # damaged before
        return damage_bytes(rng, content)
    steps = [content[a:b] for a, b in pairwise(places)]
    number = rng.randrange(1, len(steps)) if len(steps) > 1 else 0
    match rng.randrange(6):
        case 0:
            del steps[number]
        case 1:
            steps.insert(number, steps[number])
        case 2:
            other = rng.randrange(len(steps))
            steps[number], steps[other] = steps[other], steps[number]
        case 3:
            steps.insert(number, rng.choice(PAYLOADS))
        case 4:
            steps[number] = rng.choice(pickletools.opcodes).code.encode("latin1") + rng.randbytes(
                rng.randrange(6)
            )
        case _:
            steps[number] = damage_bytes(rng, steps[number])
    return b"".join(steps)


def damage_npy(rng: Random, content: bytes) -> bytes:
    """Change the text that describes an array, or its bytes."""
    found = re.search(rb"\{.*?\}", content[:200])
    if not found or rng.random() < 0.3:
        return damage_bytes(rng, content)
    text = found[0]
    match rng.randrange(3):
        case 0:
            shape = rng.choice((b"(-1,)", b"(2**40,)", b"(99999999999,)", b"()", b"(3, 3)", b"(0,)"))
            changed = re.sub(rb"\(.*?\)", shape, text)
        case 1:
            kind = rng.choice((b"'|O'", b"'<f8'", b"'<U99999999'", b"'V8'", b"'>i2'"))
            changed = re.sub(rb"'<?\|?[a-zA-Z][0-9]+'", kind, text)
        case _:
            changed = damage_bytes(rng, text)
    return content.replace(text, changed[: len(text)].ljust(len(text)), 1)


def damage_table(rng: Random, content: bytes) -> bytes:
    """Change cells, quotes and ends of lines of a table of text."""
    text = content.decode(errors="replace")
    cells = [(m.start(), m.end()) for m in re.finditer(r"[^,\n]+", text)]
    start, end = rng.choice(cells)
    lines = text.split("\n")
    match rng.randrange(8):
        case 0 | 1:
            text = (
                text[:start]
                + rng.choice((*TEXTS, "1e400", "-1", "inf", "0x10", "١", "1_0", " "))
                + text[end:]
            )
        case 2:
            text = (
                text[:start]
                + rng.choice(('"', '""', ",", ",,", "\n", "\r", "\r\n", ";", "\t", "'"))
                + text[start:]
            )
        case 3:
            rng.shuffle(lines)
            text = "\n".join(lines)
        case 4:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            text = "\n".join(lines)
        case 5:
            del lines[rng.randrange(len(lines))]
            text = "\n".join(lines)
        case 6:
            return damage_bytes(rng, content)
        case _:
            encoding = rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32"))
            return text.encode(encoding, errors="replace")
    return text.encode(errors="surrogateescape")
