"""Which series a job is about: a filter over a view without identifiers, and what may be said of it."""
