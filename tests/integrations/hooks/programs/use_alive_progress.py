from alive_progress import alive_bar


def work(title, total, step, file):
    with alive_bar(total, title=title, file=file) as bar:
        for item in range(total):
            if step(item):
                break
            bar()
