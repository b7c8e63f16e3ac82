"""Models: MONAI bundles taken in as data, vouched for, kept sealed, run where they can do no harm."""
