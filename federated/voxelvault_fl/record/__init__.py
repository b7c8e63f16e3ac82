"""What stays of a run: entries in all audit logs, cosigned by the others, and a model that proves it."""
