"""Where a slot's secret comes from: a file, a passphrase, the environment, a recovery code."""
