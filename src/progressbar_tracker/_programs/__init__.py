"""Programs run under the command line: supervised, parsed, and their bars relayed."""
