from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults import history
from tests.faults.harness import Run, running
from tests.faults.nursery import Nursery

TIMEOUTS = {"short": 120, "ci": 1200, "long": 7200}
FIGURES = "figures"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    timeout = TIMEOUTS[config.getoption("--faults")]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if config.getoption("--faults") != "short" or not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(timeout))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Those of passed teardowns have no category.
    lines = [
        value
        for report in terminalreporter.getreports("")
        if report.when == "teardown"
        for name, value in report.user_properties
        if name == FIGURES
    ]
    if lines:
        terminalreporter.write_sep("=", "faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where nodes are forked."""
    with closing(Nursery()) as nursery:
        yield nursery


@pytest.fixture
def begin(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery
) -> Iterator[Callable[..., Awaitable[Run]]]:
    """Begin a run: `run = await begin("zombie", database)`. Its nodes end with the test.

    `noted=False` leaves out the history, where rows are too many.
    """
    with ExitStack() as stack:

        async def begin_run(name: str, url: str, *, noted: bool = True) -> Run:
            if noted:
                await history.install(url)
            directory = tmp_path / "run"
            directory.mkdir()
            seed = request.config.getoption("--faults-seed")
            run = stack.enter_context(running(name, url, directory, seed, nursery))
            stack.callback(lambda: request.node.user_properties.append((FIGURES, run.line)))
            return run

        yield begin_run
