"""Plugins for programs in which people look at SQLite files already: Datasette and sqlite-utils.

Promise: found by those programs through entry points; each loads the library only when a ledger is looked at.
"""
