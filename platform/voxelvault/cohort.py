"""Selection and Cohort: which series, with which labels, in which part. The face a notebook meets."""
