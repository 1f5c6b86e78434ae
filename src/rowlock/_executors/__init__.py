"""Where handlers run: in the event loop, in a thread, in a process.

Knows no store. Enter at `base.Executor`.
"""
