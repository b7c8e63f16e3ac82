"""Results: segmentation, report and key image in the source study, read back, and exported."""

from voxelvault_triage.results.exporting import export_results
from voxelvault_triage.results.reading import Recorded, read_result, read_results
from voxelvault_triage.results.writing import Written, write_results

__all__ = ["Recorded", "Written", "export_results", "read_result", "read_results", "write_results"]
