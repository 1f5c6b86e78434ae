"""PostgreSQL, through asyncpg. Enter at `database.PostgresDatabase`."""
