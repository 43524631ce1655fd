"""Expected starts of items: when the next one is, and which were missed."""
