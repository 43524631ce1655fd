"""Names that one process at a time can hold, among those of a user on a machine.

A name is an abstract address of a socket: Linux frees it at the end of the process, however that ends, and nothing is
left on the disk. A child of a fork holds the names of its parent. Other systems have no such names.
"""

from __future__ import annotations

import errno
import os

from ._fork import importing


def claim_name(name: str) -> bool:
    """Hold a name until the end of this process. Each name takes an open file.

    Args:
        name: Any text.

    Returns:
        Whether nothing else holds the name, as far as the system can say.
    """
    try:
        with importing:
            import socket
            import zlib
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except (ImportError, OSError, AttributeError):
        return True
    try:
        claim.bind(f"\0progressbar-tracker/{os.getuid()}/{zlib.crc32(name.encode('utf-8', 'replace')):08x}")
    except (OSError, ValueError) as error:
        claim.close()
        # Any other error is that of a system without abstract addresses, or one that forbids them.
        return getattr(error, "errno", None) != errno.EADDRINUSE
    claim.detach()  # an object would be closed, or warn, at the end of the interpreter
    return True
