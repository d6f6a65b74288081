"""JSON that gives back what it was given.

Promise: ``json.loads(to_json(value)[0])`` equals `value`, type by type, or `to_json` refuses. Python's own encoder
turns tuples into lists, numbers as keys into strings and enumerations into their values, and writes NaN, which is not
JSON.
"""

from __future__ import annotations

import json
import math
import re
from json.encoder import encode_basestring as quoted
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEPTH_MAX: Final = 200
"""How deep lists and objects may be nested (RFC 8259, section 9, lets an implementation set this). Python's JSON reader
and SQLite's JSON functions can read this, and it leaves most of Python's recursion limit to the caller."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)


def _ready_encoder() -> Callable[[object, int], Iterable[str]]:
    """Return what `_ENCODER` makes anew for each value: most of the time that a small document takes.

    Python's own module makes it from these arguments since 3.1; an interpreter without it has the public way.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    try:
        known = (None, _ENCODER.default, quoted, None, ":", ",", False, False, False)
        ready: Callable[[object, int], Iterable[str]] = make(*known)  # type: ignore[misc]
        if "".join(ready({"a": [1, None, "ä"]}, 0)) == '{"a":[1,null,"ä"]}':
            return ready
    except TypeError:  # none, or one with other arguments
        pass
    return lambda value, _: (_ENCODER.encode(value),)


_pieces: Final = _ready_encoder()
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped U+0000: one whose backslash is not itself escaped."""


def to_json(value: object, *, bytes_max: int, store: str, what: str = "document") -> tuple[str, bytes]:
    """Return `value` as JSON text without spaces, its objects in their own order, and the same in UTF-8.

    `what` names the value in errors.

    Raises:
        UsageError: `value` would come back different (another type than dict with string keys, list, str, int, float,
            bool and None, subclasses included; NaN, an infinity), cannot be stored (lone surrogate, U+0000, an
            integer that Python will not print), is nested more than 200 levels deep or in itself, or is longer than
            `bytes_max`.
    """
    return _Encoding(bytes_max, store, what).encode(value)


class _Encoding:
    """The encoding of one value for the store called `store`."""

    def __init__(self, bytes_max: int, store: str, what: str) -> None:
        self._bytes_max = bytes_max
        self._allowance = bytes_max
        self._store = store
        self._what = what

    def encode(self, value: object) -> tuple[str, bytes]:
        try:
            self._check((value,), 0)
            text = "".join(_pieces(value, 0))
        except RecursionError:
            raise self._refusal("is nested too deeply for what is left of Python's stack", "Flatten it.") from None
        except ValueError:
            raise self._refusal("holds an integer of thousands of digits", "Store it as a string.") from None
        if "\\u0000" in text and _NUL.search(text):
            raise self._refusal("has a string with U+0000", "Remove that character.")
        try:
            content = text.encode()
        except UnicodeEncodeError:
            content = None  # the exception holds the whole text, so nothing may be raised from inside this block
        if content is None:
            raise self._refusal("has a string with a lone surrogate, which UTF-8 cannot hold", "Remove that character.")
        if len(content) > self._bytes_max:
            raise self._too_long(f"is {len(content):,} bytes long as JSON")
        return text, content

    def _check(self, items: Iterable[Any], depth: int) -> None:
        if self._allowance < 0:
            # Each value is at least one byte of JSON. Counting them here stops a document that contains the same list
            # again and again before it fills the machine's memory.
            raise self._too_long("is too long as JSON")
        for item in items:
            self._allowance -= 1
            kind = type(item)
            if kind is str or kind is int or kind is bool or item is None:
                continue
            if kind is list or kind is dict:
                if depth == DEPTH_MAX:
                    raise self._refusal(
                        f"is nested more than {DEPTH_MAX} levels deep, or contains itself", "Flatten it."
                    )
                self._check(item if kind is list else self._members(item), depth + 1)
            elif kind is not float:
                raise self._refusal(
                    f"holds a {kind.__name__}, which JSON would not give back as it was",
                    "Convert it to dict, list, str, int, float, bool or None.",
                )
            elif not math.isfinite(item):
                raise self._refusal("holds NaN or an infinity, which JSON lacks", "Store None or a string instead.")

    def _members(self, item: dict[object, object]) -> Iterable[object]:
        for key in item:
            if type(key) is not str:
                raise self._refusal(
                    f"has an object with a key of type {type(key).__name__}; in JSON keys are strings",
                    "Convert the key with str().",
                )
        return item.values()

    def _too_long(self, what: str) -> UsageError:
        return self._refusal(
            f"{what}; the limit is {self._bytes_max:,} bytes", "Split it, or keep the bulk in a blob store."
        )

    def _refusal(self, what: str, hint: str) -> UsageError:
        return UsageError(f"The {self._what} {what}.", hint=f"Nothing was written. {hint}", store=self._store)
