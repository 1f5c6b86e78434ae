"""What `start` starts.

Enter at `worker.Worker`, which wires the loops around what the process holds.
"""
