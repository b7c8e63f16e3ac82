"""Child processes that see strangers' bytes: what they give up, and their parent's half."""
