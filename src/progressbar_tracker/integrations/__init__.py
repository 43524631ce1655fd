"""Neighbours: one file for each third party, which is imported there alone."""
