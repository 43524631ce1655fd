"""The Python snippets of the published 1.0.0 package's page, and how to run them.

The tests run the same text with this project's package in their own process, and with the published package in another
Python, which runs this file as a script. Therefore this file imports the standard library only.

Only these parts of a snippet are replaced:

* the placeholders of the URL and of the keys, by those of a running server;
* ``...`` in calls, by arguments;
* the import of ``ProgressBar``, which only the first snippet has;
* ``time.sleep``, by a stub that returns at once.

The comment ``# ... do work ...`` stays. A line with the comment ``# Raises`` must raise.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
import types

PAGE_SNIPPETS = {
    "quick start": '''\
from progressbar_tracker import ProgressBar

# Initialize with your API endpoint and key
pb = ProgressBar(
    api_url="http://your-server:8989",
    api_key="your-api-key"
)

# Create a new progress item
pb.create(
    item_id="video-encoding-001",
    title="Encoding Video",
    description="Processing 4K video file",
    value=0.0,
    weight=100  # Higher weight = higher priority in display
)

# Update progress
pb.update(
    item_id="video-encoding-001",
    title="Encoding Video",
    description="50% complete",
    value=0.5,
    weight=100
)

# Get all items
items = pb.get_all()
for item in items:
    print(f"{item['title']}: {item['value']*100:.0f}%")

# Delete when done
pb.delete("video-encoding-001")
''',
    "read key": '''\
pb = ProgressBar(api_url="http://server:8989", api_key="readonly-key-123")
items = pb.get_all()  # Works
pb.create(...)  # Raises PermissionError
''',
    "write key": '''\
pb = ProgressBar(api_url="http://server:8989", api_key="write-key-456")
pb.create("my-task", "Task", "Processing...", 0.5)  # Works
pb.update("my-task", "Task", "Almost done", 0.9)    # Works
pb.update("other-task", ...)  # Raises PermissionError
''',
    "admin key": '''\
pb = ProgressBar(api_url="http://server:8989", api_key="admin-key-789")
pb.update("any-task", ...)  # Works on any item
pb.delete("any-task")       # Can delete any item
''',
    "check permissions": '''\
pb = ProgressBar(api_url="http://server:8989", api_key="your-key")

if pb.is_admin():
    print("You have full admin access")
elif pb.can_write():
    print("You can create and modify items")
elif pb.is_read_only():
    print("You can only view items")
''',
    "error handling": '''\
from progressbar_tracker import ProgressBar, PermissionError

pb = ProgressBar(api_url="http://server:8989", api_key="write-key")

try:
    pb.create("task-1", "Task 1", "Running", 0.5)
except PermissionError as e:
    print(f"Permission denied: {e}")
except ValueError as e:
    print(f"Validation error: {e}")
''',
    "disable auto-detection": '''\
# Skip permission detection on initialization (faster)
pb = ProgressBar(
    api_url="http://server:8989",
    api_key="your-key",
    auto_detect=False
)
''',
    "video encoding pipeline": '''\
from progressbar_tracker import ProgressBar
import time

pb = ProgressBar(api_url="http://server:8989", api_key="write-key")

# Start encoding
pb.create("video-001", "Encoding: movie.mp4", "Initializing...", 0.0, weight=100)

for progress in range(0, 101, 10):
    time.sleep(1)
    pb.update(
        "video-001",
        "Encoding: movie.mp4",
        f"Processing frame {progress*10}/1000",
        progress / 100.0,
        weight=100
    )

pb.delete("video-001")
print("✓ Encoding complete!")
''',
    "batch processing": '''\
from progressbar_tracker import ProgressBar

pb = ProgressBar(api_url="http://server:8989", api_key="write-key")

files = ["file1.txt", "file2.txt", "file3.txt"]

for i, filename in enumerate(files):
    pb.create(
        f"process-{i}",
        f"Processing {filename}",
        "In queue",
        0.0,
        weight=len(files) - i  # Higher weight for earlier files
    )

# Process and update
for i, filename in enumerate(files):
    # ... do work ...
    pb.update(f"process-{i}", f"Processing {filename}", "Complete", 1.0)
    pb.delete(f"process-{i}")
''',
}  # fmt: skip

PERMISSION_SENTENCES = {
    "admin": "You have full admin access",
    "write": "You can create and modify items",
    "read": "You can only view items",
}
"""The output of the snippet "check permissions" for each type of key."""


def fill_snippet(name: str, url: str, key: str) -> str:
    """Return a runnable snippet: placeholders replaced, ``ProgressBar`` imported."""
    source = re.sub(r"http://(your-)?server:8989", url, PAGE_SNIPPETS[name])
    source = re.sub(r'api_key="[^"]*"', f'api_key="{key}"', source)
    arguments = '"Task", "Sent by the page", 0.5'
    source = source.replace("pb.create(...)", f'pb.create("new-task", {arguments})')
    source = source.replace('-task", ...)', f'-task", {arguments})')
    return f"from progressbar_tracker import ProgressBar\n{source}"


def run_snippet_source(source: str, names: dict) -> list[BaseException]:
    """Execute ``source`` statement by statement in ``names``; return the errors of the lines with ``# Raises``."""
    slept = names["slept"] = []

    def import_module(name, *rest):
        return types.SimpleNamespace(sleep=slept.append) if name == "time" else __import__(name, *rest)

    # It applies to imports of the snippet only, not of packages.
    names["__builtins__"] = {**vars(builtins), "__import__": import_module}
    raised = []
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        expected = re.search(r"# Raises (\w+)$", lines[statement.end_lineno - 1])
        try:
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)
        except Exception as error:
            if expected is None or expected[1] not in [kind.__name__ for kind in type(error).__mro__]:
                raise
            raised.append(error)
        else:
            if expected is not None:
                raise AssertionError(f"did not raise: {lines[statement.lineno - 1]}")
    return raised


if __name__ == "__main__":
    run_snippet_source(json.load(sys.stdin), {})
