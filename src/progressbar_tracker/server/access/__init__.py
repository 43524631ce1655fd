"""Who may do what: keys, sessions, shares, and the limits on attempts."""
