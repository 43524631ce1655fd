"""The dashboard: HTML, CSS and one ES module, without a build step."""
