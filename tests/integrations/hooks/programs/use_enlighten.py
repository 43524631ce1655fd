import enlighten

managers = {}


def work(title, total, step, file):
    if file not in managers:
        managers[file] = enlighten.get_manager(stream=file, set_scroll=False)
    with managers[file].counter(total=total, desc=title) as counter:
        for item in range(total):
            if step(item):
                break
            counter.update()
