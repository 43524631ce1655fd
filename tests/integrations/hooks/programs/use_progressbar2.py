import progressbar


def work(title, total, step, file):
    for item in progressbar.ProgressBar(prefix=f"{title}: ", fd=file)(range(total)):
        if step(item):
            break
