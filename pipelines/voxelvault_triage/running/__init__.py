"""Analyses are done: one study at a time in a worker that is lent its packs, the queue around it here."""
