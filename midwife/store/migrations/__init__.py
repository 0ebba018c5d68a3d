"""Alembic's environment and the revisions; run by ``midwife.store.database`` only when the file is behind."""
