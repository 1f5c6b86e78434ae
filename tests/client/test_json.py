"""The JSON rule: what is taken comes back exactly from both databases, all else is refused."""

from __future__ import annotations

import asyncio
import json
import math
from collections import OrderedDict, deque, namedtuple
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rowlock._json import dumps, loads
from rowlock._rows import TaskRow
from rowlock.errors import InvalidPayloadError
from tests.support.stores import LEASE, START, claim_one, existing, new_row, open_store, success

Pair = namedtuple("Pair", "a b")


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


def encode(value: Any, *, max_bytes: int = 1_000_000, max_depth: int = 64) -> str:
    return dumps(value, name="payload", max_bytes=max_bytes, max_depth=max_depth)


def same(one: Any, two: Any) -> bool:
    """Equal, and of the same types, signs and order of keys."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return bool(one.hex() == two.hex())
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


texts = st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)

EXACT: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**400,
    0.0,
    -0.0,
    1e300,
    1e16,
    1e22,
    1.0,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    0.1 + 0.2,
    123456789.12345678,
    9007199254740993,
    9007199254740992.0,
    "",
    " ",
    "null",
    "é\u2028\u2029\x7f\u0085\ufeff\uffff",
    "\U0001f600\U0010ffff",
    "e\u0301",
    '"\\/\b\f\n\r\t\x01\x1f',
    "\\u0000",
    "\\x00",
    [],
    {},
    [[], {}, [None]],
    {"": {"": ""}},
    {"b": 1, "a": 2, "10": 3, "9": 4},
    {"\U0001f600": 1, "\ue000": 2, "é": 3},
    {"__proto__": 1, "$ref": 2, "a.b": 3, "a[0]": 4},
]


@given(values)
def test_text_and_value(value: Any) -> None:
    text = encode(value)
    assert same(loads(text), value)
    assert same(json.loads(text), value)


@pytest.mark.parametrize("value", EXACT, ids=lambda value: ascii(value)[:30])
def test_edges_of_values(value: Any) -> None:
    assert same(loads(encode(value)), value)


async def test_both_databases_give_back_the_edges(database: str) -> None:
    """Payload and result alike, one by one and in bulk. Fails on jsonb."""
    async with open_store(database) as store:
        await check(store, EXACT)


# One database for all the examples: what matters is the column and the driver.
@pytest.mark.slow
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(values, min_size=20, max_size=60))
@example(EXACT)
def test_both_databases_give_back_the_same(database: str, many: list[Any]) -> None:
    async def run() -> None:
        async with open_store(database) as store:
            await check(store, many)

    asyncio.run(run())


async def check(store: Any, many: list[Any]) -> None:
    rows = [new_row(payload=encode(value)) for value in many]
    for row in rows[::2]:
        await store.tasks.insert(row, START)
    await store.tasks.insert_many(rows[1::2], START)
    claimed: list[TaskRow] = await store.database.claim("w", {"t": len(rows)}, LEASE, START)
    by_id = {row.id: row for row in claimed}
    outcomes = []
    for row, value in zip(rows, many, strict=True):
        # The very text comes back: nothing was parsed and written anew on its way.
        assert by_id[row.id].payload == row.payload
        assert same(loads(by_id[row.id].payload), value)
        outcomes.append(success(by_id[row.id], row.payload))
    done = (await store.attempts.finish("w", outcomes, now=START)).tasks
    for row, value in zip(rows, many, strict=True):
        task = await existing(store, row.id)
        assert same(task.payload, value)
        assert same(task.result, value)
        assert done[row.id] == task
        await store.tasks.remove(row.id)


async def test_no_payload_and_null_are_both_none(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert(new_row(payload=None), START)
        row = await claim_one(store)
        assert row.payload is None
        await store.attempts.finish("worker", [success(row, None)], now=START)
        task = await existing(store, row.id)
        assert (task.payload, task.result) == (None, None)


def circular() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    return value


REFUSED: dict[str, Any] = {
    "NaN": math.nan,
    "infinity": math.inf,
    "-infinity": -math.inf,
    "NaN inside": {"a": [1, math.nan]},
    "NUL": "a\0b",
    "NUL key": {"a\0": 1},
    "NUL deep": [[{"a": "\0"}]],
    "high surrogate": "\ud800",
    "low surrogate": "a\udfffb",
    "surrogates swapped": "\ude00\ud83d",
    "surrogates of a pair": "\ud83d\ude00",
    "surrogate key": {"\udc80": 1},
    "integer of 5,000 digits": 10**5000,
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "memoryview": memoryview(b"a"),
    "set": {1},
    "frozenset": frozenset({1}),
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "decimal": Decimal("1.5"),
    "complex": 1j,
    "object": object(),
    "type": int,
    "function": len,
    "generator": (n for n in range(3)),
    "range": range(3),
    "dict view": {}.keys(),
    "exception": ValueError("x"),
    "int key": {1: 2},
    "None key": {None: 1},
    "bool key": {True: 1},
    "float key": {1.5: 1},
    "tuple key": {(1,): 1},
    "bytes key": {b"a": 1},
    "circular": circular(),
    "65 lists": nested(65, list),
    "65 tuples": nested(65, tuple),
    "65 dicts": nested(65, dict),
    "100,000 lists": nested(100_000, list),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    for value in (REFUSED[name], [REFUSED[name]], {"a": REFUSED[name]}):
        with pytest.raises(InvalidPayloadError, match=r"^payload"):
            encode(value)


PLACES: list[tuple[Any, str]] = [
    (b"", "payload is"),
    ([b""], "payload[0] is"),
    ({"order": {"lines": [{}, {"at": b""}]}}, "payload.order.lines[1].at is"),
    ((1, (2, {3})), "payload[1][1] is"),
    ({"a b": {"c.d": b""}}, "payload['a b']['c.d'] is"),
    ({"": [b""]}, "payload[''][0] is"),
    ({"é\n": b""}, r"payload['\xe9\n'] is"),
    ({"1": {"_x": b""}}, "payload['1']._x is"),
    ({Colour.RED: b""}, "payload.red is"),
    ({"a": 1, "b": [math.inf], "c": math.nan}, "payload.b[0] is inf"),
    ({"a": [[-math.inf]]}, "payload.a[0][0] is -inf"),
    ({"a": {"b": {1: 2}}}, "payload.a.b has a key of type int"),
    ({"a": {"\0": 2}}, "payload.a has a key with a NUL"),
    ({"a": [{"\ud800": 2}]}, "payload.a[0] has a key with a lone surrogate"),
    (["a", ["b", "\0"]], "payload[1][1] holds a NUL"),
    ({"name": "\ud83d"}, "payload.name holds a lone surrogate"),
    ({"n": [10**5000]}, "payload.n[0] is an integer of too many digits"),
    ({"x": nested(64, list)}, "payload.x[0][0]"),
    ({"k" * 64: {"l" * 65: b""}}, f"payload.{'k' * 64}['{'l' * 64}'] is"),
    (nested(40, dict) | {"b": [object()]}, "payload.b[0] is of type object, which is not JSON"),
]


@pytest.mark.parametrize(("value", "place"), PLACES, ids=[place for _, place in PLACES])
def test_a_refusal_names_the_place(value: Any, place: str) -> None:
    """Fails where only what is wrong is said, in a payload of a thousand values."""
    with pytest.raises(InvalidPayloadError) as info:
        encode(value)
    assert str(info.value).startswith(place)


def test_a_long_place_is_cut() -> None:
    value: Any = object()
    for _ in range(60):
        value = {"a" * 60: value}
    with pytest.raises(InvalidPayloadError) as info:
        encode(value)
    message = str(info.value)
    assert message.startswith("payload.aaa")
    assert "...aaa" in message
    assert len(message) < 300


class Model(BaseModel):
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Data:
    at: int = 1


class Plain(Enum):
    RED = "red"


class Later(Awaitable[int]):
    def __await__(self) -> Any:
        raise NotImplementedError


class Array:
    def tolist(self) -> list[int]:
        return [1]


MODEL_DUMP = 'model_dump(mode="json")'
REMEDIES: list[tuple[Any, str]] = [
    (Model(), MODEL_DUMP),
    (Model().model_dump(), f"isoformat(), or {MODEL_DUMP}"),
    (Data(), "dataclasses.asdict()"),
    (date(2026, 1, 1), "isoformat()"),
    (time(1), "isoformat()"),
    (timedelta(1), "total_seconds()"),
    (UUID(int=1), f"str(), or {MODEL_DUMP}"),
    (Decimal("1.5"), f"str(), or {MODEL_DUMP}"),
    (Path("x"), "str()"),
    (Plain.RED, "its value"),
    (b"x", "base64"),
    ({1}, "list()"),
    ({}.keys(), "list()"),
    ({}.values(), "list()"),
    (range(3), "list()"),
    (deque([1]), "list()"),
    (iter([1]), "list()"),
    (MappingProxyType({}), "dict()"),
    (ValueError(), "str()"),
    (Later(), "awaited"),
    (Array(), "tolist()"),
    (math.nan, "math.isfinite()"),
]


@pytest.mark.parametrize(
    ("value", "remedy"), REMEDIES, ids=[type(value).__name__ for value, _ in REMEDIES]
)
def test_a_refusal_names_a_remedy(value: Any, remedy: str) -> None:
    with pytest.raises(InvalidPayloadError) as info:
        encode({"a": [value]})
    assert str(info.value).startswith("payload.a[0]")
    assert remedy in str(info.value).partition("; give ")[2]


def test_models_are_values_only_where_that_is_asked_for() -> None:
    value = {"a": [Model(), Data()]}
    with pytest.raises(InvalidPayloadError, match=r"^payload\.a\[0\] is of type Model"):
        encode(value)
    text = dumps(value, name="result", max_bytes=1000, max_depth=4, models=True)
    assert loads(text) == {"a": [{"at": "2026-01-01T00:00:00Z"}, {"at": 1}]}
    # The limits are of the JSON that comes out.
    with pytest.raises(InvalidPayloadError, match=r"bytes as JSON; 40 are allowed"):
        dumps(value, name="result", max_bytes=40, max_depth=4, models=True)
    with pytest.raises(InvalidPayloadError, match=r"^result\.a\[0\] is nested deeper than 2"):
        dumps(value, name="result", max_bytes=1000, max_depth=2, models=True)


def test_nesting_up_to_the_limit_is_taken() -> None:
    for kind in (list, dict):
        value = nested(64, kind)
        assert same(loads(encode(value)), value)
    assert encode(nested(3, list), max_depth=3) == "[[[1]]]"
    with pytest.raises(InvalidPayloadError, match="nested deeper than 3 levels"):
        encode(nested(4, list), max_depth=3)
    # The deepest that SizeLimits allows can be read back too.
    assert same(loads(encode(nested(144, list), max_depth=144)), nested(144, list))


@pytest.mark.parametrize(
    ("value", "size"), [("a" * 98, 100), ("é" * 49, 100), ("\n" * 49, 100), (["a" * 96], 100)]
)
def test_size_is_of_the_text_in_utf_8(value: Any, size: int) -> None:
    assert len(encode(value, max_bytes=size).encode()) == size
    with pytest.raises(InvalidPayloadError, match=f"{size} bytes as JSON; {size - 1} are allowed"):
        encode(value, max_bytes=size - 1)


def test_kinds_of_json_values_become_what_they_are() -> None:
    """A subclass is stored as the JSON that it stands for."""
    value = [Colour.RED, Number.ONE, (1, 2), Pair(1, 2), OrderedDict(b=1, a=2)]
    assert loads(encode(value)) == ["red", 1, [1, 2], [1, 2], {"b": 1, "a": 2}]


def test_a_value_that_is_shared_is_not_circular() -> None:
    shared = {"a": 1}
    assert loads(encode([shared, shared])) == [{"a": 1}, {"a": 1}]
