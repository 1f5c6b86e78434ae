"""The cursor: what was not returned by this walk is refused, and before any SQL."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowlock import TaskQueue
from rowlock._store.cursor import Position, decode, encode
from rowlock.errors import InvalidCursorError

WALK = ("t", "pending", "dateCreated", "asc")
ALPHABET = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

positions = st.builds(
    Position,
    segment=st.integers(0, 255),
    value=st.integers(-(2**63), 2**63 - 1),
    id=st.binary(min_size=16, max_size=16).map(bytes.hex),
)
words = st.none() | st.text(max_size=20)
walks = st.tuples(words, words, words, words)


def refused(cursor: object, walk: tuple[str | None, ...] = WALK) -> bool:
    try:
        decode(cursor, walk)
    except InvalidCursorError as error:
        return str(error).startswith("cursor")
    return False


@given(positions, walks)
def test_a_cursor_comes_back(position: Position, walk: tuple[str | None, ...]) -> None:
    cursor = encode(position, walk)
    assert set(cursor) <= ALPHABET
    assert decode(cursor, walk) == position


@pytest.mark.slow
@settings(max_examples=2000)
@given(positions, st.integers(0), st.integers(0, 6))
def test_a_flipped_bit_is_refused(position: Position, place: int, bit: int) -> None:
    raw = bytearray(encode(position, WALK).encode("ascii"))
    raw[place % len(raw)] ^= 1 << bit
    assert refused(raw.decode("ascii"))


@pytest.mark.slow
@settings(max_examples=2000)
@given(positions, st.integers(0), st.characters())
@example(Position(0, -1, "f" * 32), 8, "+")
@example(Position(0, -1, "f" * 32), 8, "/")
def test_a_changed_character_is_refused(position: Position, place: int, other: str) -> None:
    """Fails where two texts stand for one cursor, as "+" for "-" in a lenient base64."""
    cursor = encode(position, WALK)
    place %= len(cursor)
    changed = cursor[:place] + other + cursor[place + 1 :]
    assert changed == cursor or refused(changed)


@given(positions)
def test_the_other_alphabet_of_base64_is_refused(position: Position) -> None:
    cursor = encode(position, WALK)
    changed = cursor.replace("-", "+").replace("_", "/")
    assert changed == cursor or refused(changed)


@given(positions, st.integers(0, 100), st.integers(0, 100))
def test_a_cut_cursor_is_refused(position: Position, start: int, end: int) -> None:
    cursor = encode(position, WALK)
    cut = cursor[start:end]
    assert cut == cursor or refused(cut)


@given(positions, walks, walks)
@example(Position(0, 0, "0" * 32), (None,), ("None",))
@example(Position(0, 0, "0" * 32), ("a", None), ("a', None, '", None))
@example(Position(0, 0, "0" * 32), ("ab", "c"), ("a", "bc"))
def test_a_cursor_of_another_walk_is_refused(
    position: Position, own: tuple[str | None, ...], foreign: tuple[str | None, ...]
) -> None:
    assert own == foreign or refused(encode(position, own), foreign)


@pytest.mark.slow
@settings(max_examples=2000)
@given(
    st.text()
    | st.binary(min_size=36, max_size=36).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | st.text(alphabet=sorted(ALPHABET | {"="}), min_size=48, max_size=48)
)
def test_foreign_text_is_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        " ",
        "A" * 48,
        "=" * 48,
        pytest.param("A" * 1_000_000, id="1 MB"),
        "é" * 48,
        pytest.param("\ud800" * 48, id="surrogates"),
        "A" * 47 + "\0",
    ],
)
def test_odd_text_is_refused(cursor: str) -> None:
    assert refused(cursor)


@pytest.mark.parametrize("cursor", [b"A" * 48, 0, 1.5, True, [], {}, object()])
def test_what_is_no_text_is_refused(cursor: object) -> None:
    assert refused(cursor)


async def test_query_refuses_it_without_sql(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TaskQueue(database) as queue:
        for _ in range(2):
            await queue.create("t")
        good = (await queue.query(limit=1)).cursor
        assert good is not None

        async def read(operation: object) -> None:
            raise AssertionError("SQL was sent")

        for name in ("autocommit", "read", "read_in_index_order"):
            monkeypatch.setattr(queue._store.database, name, read)
        bad: list[object] = [good[:-1], good + "A", good.swapcase(), "", "A" * 1_000_000, 5]
        for cursor in bad:
            with pytest.raises(InvalidCursorError):
                await queue.query(cursor=cursor)  # type: ignore[arg-type]
        with pytest.raises(InvalidCursorError):
            await queue.query("t", cursor=good)
        with pytest.raises(InvalidCursorError):
            await queue.query(sort_direction="desc", cursor=good)
