"""Whether a pipeline still does here what it did: drift, flags, calibration, latency, agreement.

Pure functions over rows, but for `plots.py`, which draws.
"""
