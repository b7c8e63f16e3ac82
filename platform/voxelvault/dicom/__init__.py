"""DICOM Part 10 in and out: parsing, header values, decoding, geometry."""
