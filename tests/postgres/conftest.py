"""Servers and databases come from `tests.postgres_fixtures`, as in every folder; here is what only this one needs."""
