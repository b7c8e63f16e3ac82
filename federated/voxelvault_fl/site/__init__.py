"""A site: a connector, a SuperNode and an executor, all of its own; it calls out and nobody calls in."""
