"""Synthetic studies, contract tests and strategies that other packages may import in their tests."""
