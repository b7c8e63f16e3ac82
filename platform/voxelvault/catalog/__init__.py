"""The SQL catalog: schema, DuckLake behind one protocol, the session for users' SQL."""
