"""HTTP of the SDK: messages and exchanges without I/O, and the transports that run them."""

from .eager_imports import import_eagerly

import_eagerly("httpx", "httpcore")
