import click


def work(title, total, step, file):
    with click.progressbar(range(total), label=title, file=file) as bar:
        for item in bar:
            if step(item):
                break
