"""From a cohort to batches: what a sample is, how worker processes read it, the PyTorch loader."""
