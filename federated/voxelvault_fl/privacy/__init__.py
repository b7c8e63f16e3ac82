"""What protects the subjects of a job: noise and its account, a lasting budget, an attack that measures."""
