"""A registered handler: its names resolved, its options checked."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from rowlock import _arguments as check
from rowlock.errors import InvalidArgumentError
from rowlock.models import HandlerOptions


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler as it was registered.

    Attributes:
        task_type: the type that it handles.
        source: `module.method`.
        function: the handler.
        is_async: whether it is known to be one whose calls are to be awaited. What one returns that
            is not is awaited all the same, if it can be.
        takes_payload: whether it is called with the payload.
        executor: "async", "thread" or "process".
        workers: how many may run at once.
        options: as given.
        initialise: called first in each worker.
        shutdown: called last in each worker.
    """

    task_type: str
    source: str
    function: Callable[..., Any]
    is_async: bool
    takes_payload: bool
    executor: str
    workers: int
    options: HandlerOptions
    initialise: Callable[[], Any] | None
    shutdown: Callable[[], Any] | None

    def __str__(self) -> str:
        plural = "" if self.workers == 1 else "s"
        return f"{self.task_type} ({self.executor}, {self.workers} worker{plural})"

    @property
    def starts_at_once(self) -> bool:
        """Whether a worker is ready as soon as it is started."""
        return self.executor != "process" and self.initialise is None

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
        is_async = _is_async(function)
        executor = options.executor or ("async" if is_async else "process")
        # Of a decorated one only who has decorated it knows what a call returns.
        may_be_async = is_async or inspect.iscoroutinefunction(inspect.unwrap(function))
        if (executor == "thread" and is_async) or (executor == "async" and not may_be_async):
            kind = "an async def" if is_async else "a def"
            check.refuse("options.executor", executor, f"another executor for {kind} handler")
        if executor == "process":
            elsewhere(module)
        else:
            for name in ("max_tasks_per_worker", "max_memory"):
                if getattr(options, name) is not None:
                    check.refuse(f"options.{name}", getattr(options, name), "only for processes")
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
            is_async=is_async,
            takes_payload=_takes_payload(function, method),
            executor=executor,
            workers=options.max_worker_count or _default_workers(executor),
            options=options,
            initialise=hooks["initialise_method"],
            shutdown=hooks["shutdown_method"],
        )


def _default_workers(executor: str) -> int:
    if executor == "process":
        # Those that this process may use, which `taskset` or a cpuset may have made fewer.
        if sys.platform == "linux":
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    return {"async": 100, "thread": 8}[executor]


def elsewhere(module: str) -> tuple[str, str | None]:
    """Return how another process can import a module: its name, and the script that it is.

    Raises:
        InvalidArgumentError: if it cannot.
    """
    if module != "__main__":
        return module, None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return spec.name, None  # python -m
    path = os.path.abspath(getattr(main, "__file__", None) or "")
    if not os.path.isfile(path):
        check.refuse(
            "module", module, "a module that a worker process can import, or another executor,"
        )
    return module, path


def _function(module: Any, name: str, value: str) -> Callable[..., Any]:
    if not isinstance(value, str):
        check.refuse(name, value, f"the name of a function of {module.__name__}")
    found = getattr(module, value, None)
    if not callable(found):
        check.refuse(name, value, f"the name of a function of {module.__name__}")
    result: Callable[..., Any] = found
    return result


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def _takes_payload(function: Callable[..., Any], method: str) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return True
    if not signature.parameters:
        return False
    # A decorator may give what the decorated function takes besides.
    own = inspect.signature(function, follow_wrapped=False)
    if not (_binds(signature) or _binds(own)):
        given = f"{method}{signature}"
        check.refuse("method", given, "a function that can be called with the payload alone")
    return True


def _binds(signature: inspect.Signature) -> bool:
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
