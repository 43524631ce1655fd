from tqdm import tqdm


def work(title, total, step, file):
    for item in tqdm(range(total), desc=title, file=file):
        if step(item):
            break
