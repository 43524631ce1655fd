"""The explicit client: create, update, list, delete. Without arguments it uses the server that ``track()`` uses."""

from progressbar_tracker import ProgressBar

with ProgressBar() as pb:
    pb.create("example-client", "Encoding", "starting", 0.0, weight=100)
    pb.update("example-client", "Encoding", "half way", 0.5, weight=100)
    for item in pb.get_all():
        print(f"{item['title']}: {item['value'] * 100:.0f} %")
    pb.delete("example-client")
