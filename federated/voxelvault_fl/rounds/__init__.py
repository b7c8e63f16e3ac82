"""The rounds of a run: rules for server and site that open no socket."""
