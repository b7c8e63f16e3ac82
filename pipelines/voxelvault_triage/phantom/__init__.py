"""Synthetic head CTs: anatomy, bleeds, what is mistaken for one, and the scanner. No patient in them."""
