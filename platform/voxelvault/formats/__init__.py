"""Other tools' formats: NIfTI and OME-Zarr out of the vault, common label tables in."""
