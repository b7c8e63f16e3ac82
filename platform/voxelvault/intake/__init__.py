"""DICOM comes in: whose it is, what becomes of it, what is kept aside."""
