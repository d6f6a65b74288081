"""What a ledger runs on. One engine so far: SQLite through the standard library."""
