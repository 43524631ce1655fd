"""Terminal bars, drawn by a thread of the library."""
