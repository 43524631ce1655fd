"""Integrations with third-party libraries, one module each. No other module imports the library."""
