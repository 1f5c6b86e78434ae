"""A user's application that keeps its own tables in rowlock's database, with its own Alembic."""
