"""Whether a pipeline still does here what it did: drift, flags, calibration, latency, agreement.

Pure functions over rows, but for `reading.py`, which asks the vault, and `plots.py`, which draws.
"""
