"""Is a CT what its header says: whole, even, upright, uncut, with little noise? Not a medical device."""
