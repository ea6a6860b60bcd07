"""Orders in Postgres.

Here live all statements on the database, what maps rows to values, and the schema's migrations.
"""
