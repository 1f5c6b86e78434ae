"""SQLite, through aiosqlite. Enter at `database.SqliteStore`."""
