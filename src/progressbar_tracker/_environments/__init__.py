"""What the system around a program says of it: batch systems, Kubernetes, CI services, systemd. One file for each.

``place`` asks all of them. ``PROGRESSBAR_ENVIRONMENT=0`` turns them off.
"""
