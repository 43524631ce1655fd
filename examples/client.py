"""The explicit client: create, update, list, delete. Needs PROGRESSBAR_URL and PROGRESSBAR_API_KEY."""

import os

from progressbar_tracker import ProgressBar

with ProgressBar(os.environ["PROGRESSBAR_URL"], os.environ["PROGRESSBAR_API_KEY"]) as pb:
    pb.create("example-client", "Encoding", "starting", 0.0, weight=100)
    pb.update("example-client", "Encoding", "half way", 0.5, weight=100)
    for item in pb.get_all():
        print(f"{item['title']}: {item['value'] * 100:.0f} %")
    pb.delete("example-client")
