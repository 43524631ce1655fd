"""The bars in the terminal."""
