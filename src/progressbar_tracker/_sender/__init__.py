"""The sender: a thread that reports the states of runs to a server, a few times a second."""
