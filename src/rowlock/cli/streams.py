"""The standard streams of a program that was started without one of them."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Have nothing else get the number of a closed standard stream: it becomes the null device.

    To be called before files and sockets are opened. What is written to the number of a standard
    stream goes to whatever has it, and uvloop ends the process where a pipe does.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # for programs that this one starts
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
