"""Lists of words that tell of medicine and machines, and of nobody."""
