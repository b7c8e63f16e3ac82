"""voxelvault_fl: training across hospitals; no image, header or free text leaves a site."""
