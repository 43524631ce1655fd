"""What the program holds: trackers and mirrors of bars, their runs, and the counter of a loop."""
