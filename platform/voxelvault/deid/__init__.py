"""De-identification: rules as data, and rewriting that is a pure function of a data set and a context."""
