from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


def work(title, total, step, file):
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
    with Progress(*columns, console=Console(file=file)) as progress:
        task = progress.add_task(title, total=total)
        for item in range(total):
            if step(item):
                break
            progress.advance(task)
