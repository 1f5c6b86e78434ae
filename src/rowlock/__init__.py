"""A SQL-backed durable task queue."""
