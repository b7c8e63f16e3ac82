"""Sealing and keys: the streaming AEAD, wrapping, the vault record and the key ring."""
