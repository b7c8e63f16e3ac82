"""voxelvault_triage: from a new study to the top of the worklist, with results that any PACS reads.

A demonstration, not a medical device: nothing here may decide about a patient.
"""
