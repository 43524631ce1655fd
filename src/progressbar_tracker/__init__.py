"""Wrap a loop in ``track(...)`` and watch it from anywhere."""
