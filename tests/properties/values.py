"""Generated values: those that are JSON, those that are not, and those that only seem to be."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import partial
from typing import Any

from hypothesis import strategies as st

from tests.client.test_json import nested, values

Make = Callable[[], Any]


class Colour(StrEnum):
    RED = "red"


class Kind(str, Enum):  # noqa: UP042 - its str() is "Kind.RED", which a StrEnum's is not
    RED = "red"


class Number(IntEnum):
    ONE = 1


class LyingText(str):
    """Says that there is no NUL in it."""

    __slots__ = ()

    def __contains__(self, part: object) -> bool:
        return False


class RaisingText(str):
    __slots__ = ()

    def __contains__(self, part: object) -> bool:
        raise RuntimeError("no contents")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class LyingDict(dict[Any, Any]):
    """Shows the encoder other items than the check."""

    def __init__(self, items: Any) -> None:
        super().__init__({"a": 1})
        self._items = items

    def items(self) -> Any:
        return self._items


class RaisingDict(dict[Any, Any]):
    def values(self) -> Any:
        raise RuntimeError("no values")


class LyingList(list[Any]):
    """Its second reader gets something else."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__([1])
        self._gate = [[first], [second]]

    def __iter__(self) -> Any:
        return iter(self._gate.pop(0) if self._gate else [])


class Text(float):
    def __repr__(self) -> str:
        return '"evil'


class Seeming:
    """Is said to be a str."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return str


class Unreadable:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


def deep_items() -> Any:
    value: Any = 1
    for _ in range(20_000):
        value = LyingDict([("a", value)])
    return value


good = values
# Made anew for each use: some of them can be read only once.
_BAD: list[Make] = [
    lambda: math.nan,
    lambda: -math.inf,
    lambda: math.inf,
    lambda: "a\0b",
    lambda: "\ud800",
    lambda: "a\udfff",
    lambda: "\ud83d\ude00",
    lambda: 10**5000,
    lambda: b"bytes",
    lambda: bytearray(b"bytes"),
    lambda: {1, 2},
    lambda: frozenset(),
    lambda: datetime(2026, 3, 9, tzinfo=UTC),
    lambda: date(1, 1, 1),
    lambda: Decimal("NaN"),
    lambda: 1j,
    lambda: object(),
    lambda: ValueError("x"),
    lambda: {1: 1},
    lambda: {None: 1},
    lambda: {"a\0": 1},
    lambda: {"\udc80": 1},
    lambda: nested(66, list),
    lambda: nested(66, dict),
    lambda: nested(66, tuple),
    lambda: nested(3000, list),
    lambda: LyingText("a\0b"),
    lambda: {LyingText("\0"): 1},
    lambda: RaisingText("x"),
    lambda: LyingDict([("a", object())]),
    lambda: LyingDict([("a", math.nan)]),
    lambda: LyingDict(5),
    lambda: RaisingDict(a=1),
    lambda: LyingList(1, object()),
    lambda: Seeming(),
    lambda: Unreadable(),
    deep_items,
    lambda: "x" * 300_000,
    lambda: ["x"] * 100_000,
]
_ODD: list[Make] = [
    lambda: Colour.RED,
    lambda: Kind.RED,
    lambda: Number.ONE,
    lambda: True,
    lambda: -0.0,
    lambda: 1e300,
    lambda: 5e-324,
    lambda: 10**400,
    lambda: 2**63,
    lambda: Text(1.5),
    lambda: LyingText("no NUL"),
    lambda: LyingDict([("\0", 1)]),
    lambda: LyingDict([(1, "a"), ("1", "b"), ("a", None)]),
    lambda: LyingDict([("a", 1), ("a", "\0"), ("a", 2)]),
    lambda: LyingList("\0", 1),
    lambda: LyingList(1, "\0"),
    lambda: OrderedDict(b=1, a=2),
    lambda: {Kind.RED: 1, "red": 2},
    lambda: (1, (2,)),
    lambda: nested(60, list),
    lambda: "\\u0000",
    lambda: "\x7f\u2028\ufeff\uffff",
]


def _constantly(value: Any) -> Make:
    return lambda: value


def _inside(makes: list[Make]) -> st.SearchStrategy[Make]:
    """A value with one of these somewhere in it."""
    wraps = st.lists(st.sampled_from(["list", "dict", "tuple", "among"]), max_size=3)
    return st.builds(partial, st.just(_wrap), st.sampled_from(makes), wraps, good)


def _wrap(make: Make, wraps: list[str], sibling: Any) -> Any:
    value = make()
    for wrap in wraps:
        value = {
            "list": [value],
            "dict": {"a": value},
            "tuple": (value,),
            "among": [sibling, value, sibling],
        }[wrap]
    return value


# What makes a value, and whether it can be stored: None where either will do.
judged: st.SearchStrategy[tuple[Make, bool | None]] = st.one_of(
    st.tuples(good.map(_constantly), st.just(True)),
    st.tuples(_inside(_BAD), st.just(False)),
    st.tuples(_inside(_ODD), st.none()),
)

texts = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=30),
    st.text("a\0\ud800\udfff\U0001f600", max_size=10),
    st.sampled_from(["x" * 255, "x" * 256, "é" * 255, "x" * 40_000, "\0" * 20_000, ""]),
    st.sampled_from([LyingText("a\0b"), RaisingText("x"), Kind.RED, Colour.RED]),
)
