"""Work on a Dask cluster: who the workers are, what is lent to them, and what becomes of it."""
