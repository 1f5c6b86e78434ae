"""SQLite, through aiosqlite. Enter at `database.SqliteDatabase`."""
