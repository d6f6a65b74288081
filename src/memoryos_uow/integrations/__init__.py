"""Other libraries taking part in a unit of work on the ledger's own file.

`UnitOfWork.db` gives a sqlite-utils database, `memoryos_uow.integrations.sqlalchemy.session` a SQLAlchemy session. Each
works on a connection that is the unit's: its statements run in the unit's transaction, count as writes of the unit and
are hashed into its receipt like those of `UnitOfWork.sql`. Nothing here is imported before it is used.
"""
