"""Authentication and authorization: keys, sessions, shares, and the limits on attempts."""
