"""Bleeding in the head on plain CT: a demonstration trained on synthetic data, not a medical device."""
