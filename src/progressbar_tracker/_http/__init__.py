"""HTTP of the SDK: messages and exchanges without I/O, and the transports that run them."""
