"""Replays of traces of real jobs, for ``eta.py``.

``traces`` holds the jobs, ``peers`` and ``ours`` the contenders, ``scoring`` the measures, ``hangs`` the detection of
stuck runs. ``record.py`` records new traces.
"""
