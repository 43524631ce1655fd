"""The dashboard: templates, styles and ES modules, without a build step."""
