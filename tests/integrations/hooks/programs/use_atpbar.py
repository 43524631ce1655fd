from atpbar import atpbar, flush


def work(title, total, step, file):  # atpbar chooses the stream
    for item in atpbar(range(total), name=title):
        if step(item):
            break
    if title != "Stirring":
        flush()
