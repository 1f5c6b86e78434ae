"""Handlers whose results are models, dataclasses, and what only seems to be storable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, model_serializer
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass

AT = datetime(2026, 3, 9, 10, 30, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    unit_price: Decimal = Decimal("1.50")
    shipped_at: datetime | None = AT
    colour: Colour = Colour.RED
    tags: set[str] = {"a"}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"line at {self.unit_price}"


LINE = {
    "unitPrice": "1.50",
    "shippedAt": "2026-03-09T10:30:00Z",
    "colour": "red",
    "tags": ["a"],
    "label": "line at 1.50",
}


class Lines(RootModel[list[Line]]):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


class Own(BaseModel):
    @model_serializer
    def _as_text(self) -> str:
        return "own"


class Hiding(BaseModel):
    shown: int = 1
    rows: list[int] = Field(exclude=True)


class Number(BaseModel):
    value: float = Field(default=0.0, serialization_alias="theValue")


@dataclass
class Order:
    id: UUID
    day: date
    lines: list[Line] = field(default_factory=list)
    took: timedelta = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Slotted:
    text: str
    inner: Any = None


@pydantic_dataclass
class Checked:
    at: datetime


ORDER = Order(UUID(int=7), date(2026, 3, 9), [Line()])

STORED: dict[str, tuple[Callable[[], Any], Any]] = {
    "a model": (Line, LINE),
    "a list of models": (lambda: [Line(), Line()], [LINE, LINE]),
    "a tuple of models": (lambda: (Line(),), [LINE]),
    "models deep in a dict": (lambda: {"a": [{"b": Line()}]}, {"a": [{"b": LINE}]}),
    "a root model": (lambda: Lines([Line()]), [LINE]),
    "a model with extras": (lambda: Open(at=AT), {"at": "2026-03-09T10:30:00Z"}),
    "a model that is text": (lambda: [Own()], ["own"]),
    "a model that hides most of itself": (lambda: Hiding(rows=[0] * 300_000), {"shown": 1}),
    "an alias of the output": (Number, {"theValue": 0.0}),
    "a dataclass": (
        lambda: ORDER,
        {
            "id": str(UUID(int=7)),
            "day": "2026-03-09",
            "lines": [LINE],
            "took": "PT1M30S",
        },
    ),
    "a dataclass with slots": (
        lambda: Slotted("x", Slotted("y", Line())),
        {"text": "x", "inner": {"text": "y", "inner": LINE}},
    ),
    "a dataclass of pydantic": (lambda: [Checked(AT)], [{"at": "2026-03-09T10:30:00Z"}]),
    "a model beside plain values": (lambda: {"n": 1, "m": Own()}, {"n": 1, "m": "own"}),
}


class Raising(BaseModel):
    @model_serializer
    def _broken(self) -> str:
        raise RuntimeError("no JSON")


class Exiting(BaseModel):
    @model_serializer
    def _exits(self) -> str:
        raise SystemExit


def circular() -> Any:
    one = Slotted("one", [])
    one.inner.append(one)
    return one


def wide_circle() -> Any:
    one = Slotted("one", [])
    one.inner.extend([one, *range(100_000)])
    return one


def doubled() -> Any:
    value = Slotted("end")
    for _ in range(40):
        value = Slotted("x", [value, value])
    return value


def deep() -> Any:
    value = Slotted("end")
    for _ in range(3000):
        value = Slotted("x", value)
    return value


# What the error says of each.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a datetime": (lambda: {"at": AT}, "result.at is of type datetime"),
    "a datetime beside a model": (lambda: [Line(), AT], "result[1] is of type datetime"),
    "bytes": (lambda: {"file": b"x"}, "result.file is of type bytes"),
    "a set": (lambda: [{1}], "result[0] is of type set"),
    "the class of a model": (lambda: {"line": Line}, "result.line is of type ModelMetaclass"),
    "the class of a dataclass": (lambda: [Order], "result[0] is of type type"),
    "NaN in a model": (lambda: [Number(value=float("nan"))], "result[0].theValue is nan"),
    "NUL in a model": (lambda: {"o": Open(a=["\0"])}, "result.o.a[0] holds a NUL"),
    "a surrogate in a dataclass": (lambda: Slotted("\ud800"), "result.text holds a lone surrogate"),
    "an object in a dataclass": (
        lambda: {"s": Slotted("x", object())},
        "result.s is of type Slotted, whose JSON cannot be made: PydanticSerializationError",
    ),
    "a model that raises": (
        lambda: [1, Raising()],
        "result[1] is of type Raising, whose JSON cannot be made: PydanticSerializationError",
    ),
    "a circle": (circular, "result is of type Slotted, whose JSON cannot be made: ValueError"),
    "a circle among many": (wide_circle, "result has more than 262,144 bytes"),
    "twice itself": (doubled, "result has more than 262,144 bytes"),
    "a deep dataclass": (deep, "result is of type Slotted, whose JSON cannot be made"),
    "a large model": (lambda: Open(a="x" * 300_000), "300,008 bytes as JSON; 262,144 are allowed"),
    "a model of many": (lambda: Open(a=[0] * 5_000_000), "result has more than 262,144 bytes"),
    "many models": (lambda: [Own()] * 300_000, "result has more than 262,144 bytes"),
    "models that grow": (lambda: [Line()] * 5000, "bytes as JSON; 262,144 are allowed"),
}


def made(name: str) -> Any:
    return (STORED[name] if name in STORED else REFUSED[name])[0]()


async def returns(name: str) -> Any:
    return made(name)


def returns_in_thread(name: str) -> Any:
    return made(name)


def returns_in_process(name: str) -> Any:
    return made(name)


async def exits(_: None) -> Any:
    return Exiting()
