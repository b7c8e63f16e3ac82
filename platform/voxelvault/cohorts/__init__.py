"""Which series a study is made of: selections, labels, splits, frozen cohorts."""
