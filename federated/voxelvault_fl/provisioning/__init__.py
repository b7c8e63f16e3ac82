"""A consortium's own certificates: authority, kits, the signed roster, rotation and revocation."""
