"""PostgreSQL, through asyncpg. Enter at `database.PostgresStore`."""
