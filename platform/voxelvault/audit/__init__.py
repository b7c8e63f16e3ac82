"""The transparency log: Merkle tree, checkpoints, events."""
