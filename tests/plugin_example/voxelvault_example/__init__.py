"""What a site adds to voxelvault without a fork: a codec, an ingest source, a verb."""
