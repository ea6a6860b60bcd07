"""Orders in Postgres, and the schema's migrations."""
