from fastprogress import progress_bar


def work(title, total, step, file):  # fastprogress prints
    bar = progress_bar(range(total))
    bar.prefix = title
    for item in bar:
        if step(item):
            break
