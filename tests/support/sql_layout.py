"""SQL over lines, for people. Only white space is changed."""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDTH = 96
# Longer items of a list have a line of their own.
_PACKED = 60
_INDENT = "    "
_TOKENS = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|[(),\[\]]|[<>!]?=|[<>!]+|[^\s(),\[\]'"=<>!]+""")
_BRACKETS = {"(": ")", "[": "]"}

# What begins a line of its own. A longer one comes before those with which it begins.
_CLAUSES = (
    ("INSERT", "INTO"), ("DELETE", "FROM"), ("ORDER", "BY"), ("GROUP", "BY"), ("ON", "CONFLICT"),
    ("UNION", "ALL"), ("FOR", "UPDATE"), ("CROSS", "JOIN"), ("LEFT", "JOIN"), ("JOIN",),
    ("SELECT",), ("UPDATE",), ("SET",), ("FROM",), ("VALUES",), ("WHERE",),
    ("LIMIT",), ("RETURNING",),
)  # fmt: skip
_NOT_AFTER = {"FROM": ("DELETE", "EPOCH"), "UPDATE": ("FOR", "DO"), "WHERE": (), "SET": ("DO",)}


class _Group:
    """What stands in brackets."""

    def __init__(self, bracket: str, parts: list[_Part]) -> None:
        self.bracket = bracket
        self.parts = parts


_Part = tuple[str | _Group, bool]  # and whether white space stands before it


def layout(sql: str) -> str:
    """Return a statement over lines."""
    parts, rest = _parse(_tokens(sql))
    assert not rest
    text = "\n".join(_lines(parts, ""))
    assert [token for token, _ in _tokens(text)] == [token for token, _ in _tokens(sql)]
    return text


def _tokens(sql: str) -> list[tuple[str, bool]]:
    return [
        (found[0], found.start() > 0 and sql[found.start() - 1].isspace())
        for found in _TOKENS.finditer(sql)
    ]


def _parse(
    tokens: list[tuple[str, bool]], end: str = ""
) -> tuple[list[_Part], list[tuple[str, bool]]]:
    parts: list[_Part] = []
    while tokens:
        (token, spaced), *tokens = tokens
        if token == end:
            return parts, tokens
        if token in _BRACKETS:
            inner, tokens = _parse(tokens, _BRACKETS[token])
            parts.append((_Group(token, inner), spaced))
        else:
            parts.append((token, spaced))
    return parts, tokens


def _flat(parts: Sequence[_Part]) -> str:
    text = ""
    for part, spaced in parts:
        shown = part if isinstance(part, str) else _enclosed(part)
        text += " " * (spaced and bool(text)) + shown
    return text


def _enclosed(group: _Group) -> str:
    return f"{group.bracket}{_flat(group.parts)}{_BRACKETS[group.bracket]}"


def _lines(parts: Sequence[_Part], indent: str) -> list[str]:
    clauses = _clauses(parts)
    if len(clauses) == 1 or (len(indent) + len(_flat(parts)) <= WIDTH - 20 and indent):
        return _clause(parts, indent)
    return [line for clause in clauses for line in _clause(clause, indent)]


def _clauses(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    words = [part.upper() if isinstance(part, str) else "" for part, _ in parts]
    starts = [0]
    skip = 0
    for place in range(len(words)):
        for clause in _CLAUSES:
            if place >= skip and tuple(words[place : place + len(clause)]) == clause:
                before = words[place - 1] if place else ""
                if place and before not in _NOT_AFTER.get(clause[0], ()) and before != "DISTINCT":
                    starts.append(place)
                skip = place + len(clause)
                break
    return [parts[a:b] for a, b in zip(starts, [*starts[1:], len(parts)], strict=True)]


def _clause(parts: Sequence[_Part], indent: str) -> list[str]:
    """Lay out what is one clause, or none."""
    flat = indent + _flat(parts)
    if len(flat) <= WIDTH:
        return [flat]
    for split in (_by_comma, _by_condition, _by_case):
        items = split(parts)
        if len(items) > 1:
            nested = split is _by_case or _is_clause(parts)
            return _filled(items, indent, indent + _INDENT * nested)
    for place, (part, spaced) in enumerate(parts):
        if isinstance(part, _Group) and len(_flat([parts[place]])) > WIDTH // 3:
            before, after = parts[:place], parts[place + 1 :]
            head = _flat(before) + " " * (spaced and place > 0) + part.bracket
            inner = _lines(part.parts, indent + _INDENT)
            tail = _lines(after, indent) if after else [indent]
            gap = " " if after and after[0][1] else ""
            tail[0] = f"{indent}{_BRACKETS[part.bracket]}{gap}{tail[0][len(indent) :]}"
            return [indent + head, *inner, *tail]
    return [flat]


def _is_clause(parts: Sequence[_Part]) -> bool:
    """Whether it begins with a word of its own, and is no list in brackets."""
    return any(parts[0][0] == clause[0] for clause in _CLAUSES)


def _filled(items: list[Sequence[_Part]], indent: str, deeper: str) -> list[str]:
    """Lay out items one after the other."""
    lines: list[str] = []
    for item in items:
        flat = _flat(item)
        if lines and len(lines[-1]) + 1 + len(flat) <= WIDTH and len(flat) <= _PACKED:
            lines[-1] += (" " if item[0][1] else "") + flat
            continue
        lines += _clause(item, deeper if lines else indent)
    return lines


def _by_comma(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    places = [place + 1 for place, (part, _) in enumerate(parts) if part == ","]
    return [parts[a:b] for a, b in zip([0, *places], [*places, len(parts)], strict=True) if a < b]


def _by_condition(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    starts = [0]
    between = False
    depth = 0
    for place, (part, _) in enumerate(parts):
        word = part.upper() if isinstance(part, str) else ""
        depth += (word == "CASE") - (word == "END")
        if word in ("AND", "OR") and not between and not depth:
            starts.append(place)
        between = word == "BETWEEN" or (between and word != "AND")
    return [parts[a:b] for a, b in zip(starts, [*starts[1:], len(parts)], strict=True) if a < b]


def _by_case(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    words = [part.upper() if isinstance(part, str) else "" for part, _ in parts]
    starts, depth = [0], 0
    for place, word in enumerate(words):
        depth += word == "CASE"
        if place and (word in ("WHEN", "ELSE", "END") and depth == 1):
            starts.append(place)
        depth -= word == "END"
    return [parts[a:b] for a, b in zip(starts, [*starts[1:], len(parts)], strict=True) if a < b]
