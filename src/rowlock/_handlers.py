"""A registered handler: its names resolved, its options checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from rowlock import _arguments as check
from rowlock.errors import InvalidArgumentError
from rowlock.models import HandlerOptions

_WORKERS = {"async": 100, "thread": 8}


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler as it was registered.

    Attributes:
        task_type: the type that it handles.
        source: `module.method`.
        function: the handler.
        takes_payload: whether it is called with the payload.
        executor: "async" or "thread".
        workers: how many may run at once.
        options: as given.
        initialise: called first in each worker.
        shutdown: called last in each worker.
    """

    task_type: str
    source: str
    function: Callable[..., Any]
    takes_payload: bool
    executor: str
    workers: int
    options: HandlerOptions
    initialise: Callable[[], Any] | None
    shutdown: Callable[[], Any] | None

    @classmethod
    def resolve(cls, task_type: str, module: str, method: str, options: HandlerOptions) -> Self:
        """Import a handler.

        Raises:
            InvalidArgumentError: if a name cannot be imported, or an option does not fit it.
        """
        if not isinstance(module, str) or not module:
            check.refuse("module", module, "a module's dotted name")
        try:
            imported = importlib.import_module(module)
        except Exception as error:
            raise InvalidArgumentError(
                f"module: {module!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        function = _function(imported, "method", method)
        is_async = inspect.iscoroutinefunction(function)
        executor = options.executor or ("async" if is_async else "thread")
        if is_async != (executor == "async"):
            kind = "an async def" if is_async else "a def"
            check.refuse("options.executor", executor, f"another executor for {kind} handler")
        hooks = {
            name: None if value is None else _function(imported, f"options.{name}", value)
            for name, value in (
                ("initialise_method", options.initialise_method),
                ("shutdown_method", options.shutdown_method),
            )
        }
        return cls(
            task_type=task_type,
            source=f"{module}.{method}",
            function=function,
            takes_payload=_takes_payload(function),
            executor=executor,
            workers=options.max_worker_count or _WORKERS[executor],
            options=options,
            initialise=hooks["initialise_method"],
            shutdown=hooks["shutdown_method"],
        )


def _function(module: Any, name: str, value: str) -> Callable[..., Any]:
    if not isinstance(value, str):
        check.refuse(name, value, f"the name of a function of {module.__name__}")
    found = getattr(module, value, None)
    if not callable(found):
        check.refuse(name, value, f"the name of a function of {module.__name__}")
    result: Callable[..., Any] = found
    return result


def _takes_payload(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in parameters)
