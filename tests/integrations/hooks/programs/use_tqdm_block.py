from tqdm import tqdm


def work(title, total, step, file):
    with tqdm(range(total), desc=title, file=file) as bar:
        for item in bar:
            if step(item):
                break
