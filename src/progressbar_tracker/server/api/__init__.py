"""The routes for programs, their shapes, and the OpenAPI document of both."""
