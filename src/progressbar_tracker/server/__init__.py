"""The server: ``progressbar-tracker serve``.

A request travels connection -> endpoint -> api -> authorization -> board (pure rules) -> unit of work -> store and hub.
Each step calls the next one and none calls back; ``models``, ``mutations`` and ``problems`` are their shared types.
:mod:`progressbar_tracker.server.run` starts a server; importing this package alone loads nothing.
"""
