"""What re-ordering a reading list by a model's flag does to waiting, simulated.

Times are minutes since the midnight before the first day, float64. Pure but for `measured.py`, which
reads times, and `plot.py`, which draws.
"""
