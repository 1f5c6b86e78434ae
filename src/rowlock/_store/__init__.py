"""Everything that speaks SQL.

Enter at `store.Store`; what differs is in the wings `postgres` and `sqlite`.
"""
