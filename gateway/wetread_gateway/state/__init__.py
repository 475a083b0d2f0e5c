"""The one state store: SQLite on one machine, PostgreSQL for several."""
