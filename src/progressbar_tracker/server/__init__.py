"""The server: ``progressbar-tracker serve``.

A request travels route -> auth -> board (pure rules) -> store (group commit or write-behind) -> answer. Each step hands
on and none reaches back; ``records`` and ``problems`` are the two vocabularies they share. The parts are started from
:mod:`progressbar_tracker.server.run`; importing this package alone loads nothing.
"""
