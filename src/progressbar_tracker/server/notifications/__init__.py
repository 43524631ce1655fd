"""Notifications: which events a change has, their messages, and their delivery."""
