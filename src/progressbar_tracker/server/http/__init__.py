"""HTTP: connections, requests, responses, and the endpoint between ASGI and the routes."""
