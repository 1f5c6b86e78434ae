"""Explore the protocol and its broken variants, and print what was found.

`python -m tests.model [--large] [--no-traces]`
"""

from __future__ import annotations

import argparse
import time

from tests.model.explore import Exploration
from tests.model.variants import BROKEN, DOUBLE, run, whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("--large", action="store_true", help="explore more, in some minutes")
    parser.add_argument("--no-traces", action="store_true", help="print no counterexamples")
    arguments = parser.parse_args()
    began = time.perf_counter()
    wrong = 0

    print("The protocol:")
    states = 0
    for name, found in whole(large=arguments.large):
        states += found.states
        wrong += show(name, found, broken=False, traces=True)
    print("\nEach condition by itself, where another makes its lack harmless:")
    for alone, both in DOUBLE:
        wrong += show(alone.name, run(alone.world), broken=False, traces=True)
        wrong += show(both.name, run(both.world), broken=True, traces=False)
    print("\nBroken variants:")
    for variant in BROKEN:
        traces = not arguments.no_traces
        wrong += show(variant.name, run(variant.world), broken=True, traces=traces)

    seconds = time.perf_counter() - began
    print(
        f"\n{states} states of the protocol, {len(BROKEN)} broken variants, "
        f"{wrong} not as expected, {seconds:.1f} s"
    )
    return 1 if wrong else 0


def show(name: str, found: Exploration, *, broken: bool, traces: bool) -> bool:
    """Print a line, and the trace; return whether it is not what was expected."""
    example = found.counterexample
    said = "holds" if example is None else f"broken in {len(example.trace)} steps"
    wrong = (example is not None) is not broken
    mark = "  NOT EXPECTED" if wrong else ""
    print(f"  {name:<52}{found.states:>8} states{found.seconds:>7.2f} s  {said}{mark}")
    if example is not None and (traces or wrong):
        print(f"      {example.promise}:")
        print(f"      {', '.join(example.trace)}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
