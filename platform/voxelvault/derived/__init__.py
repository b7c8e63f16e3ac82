"""Sealed, rebuildable copies made for training: bricks of resampled volumes, fast frames."""
