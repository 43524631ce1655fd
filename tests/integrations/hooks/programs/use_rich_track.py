from rich.console import Console
from rich.progress import track


def work(title, total, step, file):
    for item in track(range(total), description=title, console=Console(file=file), get_time=lambda: 0.0):
        if step(item):
            break
