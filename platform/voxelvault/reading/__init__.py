"""Images come out: handles, packs, volumes, values."""
