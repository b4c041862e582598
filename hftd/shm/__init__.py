"""Shared memory: segments, rings, cells, counters, and the one map of what there is."""
