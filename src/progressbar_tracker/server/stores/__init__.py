"""Where the board's state survives a restart: one interface, and its implementations."""
