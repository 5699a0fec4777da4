"""Whole federations on one machine: the demo, partitions of data, a centralized baseline."""
