"""Objects and what is in them: sealed objects, packs, codecs, the zarr face."""
