"""A run on virtual sites made of one vault: the same job, the same rules, no server and no certificate."""
