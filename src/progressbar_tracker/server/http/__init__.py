"""HTTP: connections, and the way from a request to its route and back."""
