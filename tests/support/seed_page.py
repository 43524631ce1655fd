"""The page of the published 1.0.0 package: its Python snippets as written, and how a snippet is performed.

The same text is performed with this project's package, in the test's own process, and with the published one, in the
process of another Python that runs this file as a script. So nothing but the standard library is imported here.

What a page leaves to its reader is filled in, and nothing else is changed:

* the placeholders of the URL and of the keys, by those of a server that is there;
* ``...`` where arguments stand, by arguments;
* the import of ``ProgressBar``, which the page shows in its first snippet only;
* ``time.sleep``, which returns at once: the snippet's own ``import time`` gets a stub.

``# ... do work ...`` is a comment, and stays one. A line that says ``# Raises`` has to raise.
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


def fill_snippet(name: str, url: str, key: str) -> str:
    """Return a snippet with what the page leaves to its reader filled in."""
    source = re.sub(r"http://(your-)?server:8989", url, PAGE_SNIPPETS[name])
    source = re.sub(r'api_key="[^"]*"', f'api_key="{key}"', source)
    arguments = '"Task", "Told by the page", 0.5'
    source = source.replace("pb.create(...)", f'pb.create("new-task", {arguments})')
    source = source.replace('-task", ...)', f'-task", {arguments})')
    return f"from progressbar_tracker import ProgressBar\n{source}"


def run_snippet_source(source: str, names: dict) -> list[BaseException]:
    """Execute ``source`` statement by statement in ``names``; return what the lines that say so have raised."""
    slept = names["slept"] = []

    def importing(name, *rest):
        return types.SimpleNamespace(sleep=slept.append) if name == "time" else __import__(name, *rest)

    # Only the snippet's own imports ask this; those of the packages go their usual way.
    names["__builtins__"] = {**vars(builtins), "__import__": importing}
    raised = []
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        said = re.search(r"# Raises (\w+)$", lines[statement.end_lineno - 1])
        try:
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)
        except Exception as error:
            if said is None or said[1] not in [kind.__name__ for kind in type(error).__mro__]:
                raise
            raised.append(error)
        else:
            if said is not None:
                raise AssertionError(f"did not raise: {lines[statement.lineno - 1]}")
    return raised


if __name__ == "__main__":
    run_snippet_source(json.load(sys.stdin), {})
