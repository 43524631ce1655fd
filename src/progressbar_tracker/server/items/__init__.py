"""The items of the board: validation, transitions, order, rate, expiry, and their form on the wire."""
