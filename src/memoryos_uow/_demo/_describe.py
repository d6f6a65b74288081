"""What the four stores are given of a file: its bytes, what it says of itself, which words it has, and some counts.

Promise: pure Python, and the same for the same bytes in every process (Python's own ``hash`` of strings is not).
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings
import zlib
from collections import Counter
from typing import Any, Final, NamedTuple

DIMENSIONS: Final = 256

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_NOT_TELLING: Final = frozenset({*map(str.lower, keyword.kwlist), "self", "the", "this", "that", "are", "was", "has"})
_HEAD_LINES: Final = 5
_TEXT_CHARACTERS: Final = 2_000


class Described(NamedTuple):
    """One file as the stores take it."""

    document: dict[str, Any]
    vector: list[float]
    row: dict[str, Any]


def describe(key: str, data: bytes) -> Described:
    """Return document, vector and row of the file `key` whose bytes are `data`; bytes that are no text do no harm."""
    # U+0000 is a character that no store takes, because no receipt can hold it.
    text = data.decode("utf-8-sig", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    lines = text.splitlines()
    about, functions, classes = _of_python(data) if key.endswith(".py") else (None, None, None)
    if about is None:
        about = _first_paragraph(lines)
    head = "\n".join(lines[:_HEAD_LINES])
    document = {"path": key, "about": about[:_TEXT_CHARACTERS], "head": head[:_TEXT_CHARACTERS]}
    row = {"lines": len(lines), "bytes": len(data), "functions": functions, "classes": classes}
    return Described(document, bag_of_words(f"{key} {text}"), row)


def _of_python(data: bytes) -> tuple[str | None, int | None, int | None]:
    """Return docstring, number of functions and of classes; None where the module cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, None, None
    kinds = Counter(type(node) for node in ast.walk(tree))
    docstring = (ast.get_docstring(tree) or "").replace("\0", "\N{REPLACEMENT CHARACTER}")
    docstring = docstring.encode("utf-8", "replace").decode()  # an escape in it may make a lone surrogate
    return docstring or None, kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef], kinds[ast.ClassDef]


def _first_paragraph(lines: list[str]) -> str:
    paragraph: list[str] = []
    for line in lines:
        stripped = line.strip("#/*;-=~<>! \t")
        if stripped:
            paragraph.append(stripped)
        elif paragraph:
            break
    return " ".join(paragraph)


def words(text: str) -> list[str]:
    """Return the telling words of `text`, in lower case."""
    return [word for found in _WORD.findall(text) if (word := found.lower()) not in _NOT_TELLING]


def bag_of_words(text: str) -> list[float]:
    """Return `text` as a point in 256 dimensions: the CRC-32 of each word chooses one of them, and the sign."""
    vector = [0.0] * DIMENSIONS
    for word, times in Counter(words(text)).items():
        bits = zlib.crc32(word.encode())
        vector[bits % DIMENSIONS] += (1 if bits & DIMENSIONS else -1) * (1 + math.log(times))
    if not any(vector):
        vector[0] = 1.0  # a direction is needed, and a text without words has none
    return vector
