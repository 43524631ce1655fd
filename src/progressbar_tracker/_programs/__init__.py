"""Supervises programs that the command line runs: relays and parses their output."""
