"""The table of ``reference/libraries.md``: each library, what ``run`` shows of it, and what an integration shows.

A new library is one line of ``LIBRARY_ROWS``; then write the page with ``python -m tests.documentation.reference``.
``test_library_table.py`` compares the rows with the integrations, the tests and the installed versions.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class LibraryRow(NamedTuple):
    """A line of the table.

    Attributes:
        package: The distribution, or a module of Python.
        version: The newest version that the tests ran with; raise it when they run with a newer one.
        under_run: The progress that ``run`` and ``integrations.install()`` show of an unchanged program; may be empty.
        integration: The progress that one line of the program shows; may be empty.
        module: The module in ``integrations/``, or ``progressbar_tracker.NAME`` outside; by default the package's name.
        page: The page in ``handbook/how-to/``; by default the module's name.
        tests: The tests that prove the line, below ``tests/``; by default ``integrations/test_MODULE.py``.
    """

    package: str
    version: str
    under_run: str
    integration: str
    module: str = ""
    page: str = ""
    tests: str = ""

    def find_module(self) -> str:
        """Return the full name of the module."""
        name = self.module or self.package
        return name if "." in name else f"progressbar_tracker.integrations.{name}"

    def find_page(self) -> str:
        """Return the name of the page."""
        return self.page or self.module or self.package

    def find_tests(self) -> str:
        """Return the path of the tests, below ``tests/``."""
        return self.tests or f"integrations/test_{self.module or self.package}.py"


def declare_bars(package: str, version: str, under_run: str, module: str = "") -> LibraryRow:
    """Return the line of a library whose bars are hooked, see ``hooks/``."""
    return LibraryRow(package, version, under_run, "", module, "programs", "integrations/hooks/test_bar_programs.py")


_BOOSTING_TESTS: Final = "integrations/test_boosting.py"
_DROPIN_TESTS: Final = "dropin/test_install.py"
_PYTEST_TESTS: Final = "client/test_pytest_plugin.py"
_QUEUE_TESTS: Final = "integrations/test_task_queues.py"
_TRAINERS_FOLDER: Final = "integrations/trainers"

# fmt: off
LIBRARY_ROWS: Final = (
    declare_bars("alive-progress", "3.3", "each `alive_bar()` and `alive_it()`", "alive_progress"),
    LibraryRow("asyncio", "Python 3.11", "", "`as_completed()` and `gather()`"),
    declare_bars("atpbar", "2.0", "each loop over `atpbar()`"),
    LibraryRow("catboost", "1.2", "", "iterations", page="boosting", tests=f"{_TRAINERS_FOLDER}/test_catboost.py"),
    LibraryRow("celery", "5.7", "", "each task of a worker", page="task-queues", tests=_QUEUE_TESTS),
    declare_bars("click", "8.5", "each `click.progressbar()`"),
    LibraryRow("dask", "2026.8", "", "each `compute()`"),
    LibraryRow("dramatiq", "2.2", "", "each message of a worker", page="task-queues", tests=_QUEUE_TESTS),
    declare_bars("enlighten", "1.14", "each counter"),
    declare_bars("fastprogress", "1.0", "each `progress_bar()` and `master_bar()`, those of fastai too"),
    LibraryRow("fsspec", "2026.9", "", "transfers"),
    LibraryRow("joblib", "1.6", "", "`Parallel`"),
    LibraryRow("keras", "3.15", "each `fit()`", "epochs and steps", tests=f"{_TRAINERS_FOLDER}/test_keras.py"),
    LibraryRow("lightgbm", "4.7", "", "rounds", page="boosting", tests=_BOOSTING_TESTS),
    LibraryRow("lightning", "2.6", "each trainer", "epochs and steps", tests=f"{_TRAINERS_FOLDER}/test_lightning.py"),
    LibraryRow("logging", "Python 3.11", "", "log lines above a bar, bars as log lines"),
    LibraryRow("luigi", "3.8", "", "each task", page="task-queues", tests=_QUEUE_TESTS),
    LibraryRow("optuna", "5.0", "each `optimize()` with a progress bar", "trials"),
    LibraryRow("pandas", "3.1", "", "`read_csv()`, `progress_apply()`"),
    LibraryRow("pip", "23.2", "downloads", "", "_pip", "rich", "integrations/test_rich_install.py"),
    LibraryRow("prefect", "3.9", "", "each run of a task or a flow", page="task-queues",
               tests=f"{_TRAINERS_FOLDER}/test_prefect.py"),
    declare_bars("progressbar2", "4.6", "each `ProgressBar` and `progressbar()`"),
    LibraryRow("pytest", "9.2", "", "a session", "progressbar_tracker.pytest", "pytest", _PYTEST_TESTS),
    LibraryRow("ray", "2.60", "each bar of `tqdm_ray`", "", "_ray", "programs", "integrations/test_ray.py"),
    LibraryRow("rich", "15.0", "each task", "tasks, and `track()` with the look of rich"),
    LibraryRow("scikit-learn", "1.9", "", "fits, steps and iterations", "sklearn", "scikit-learn"),
    LibraryRow("spacy", "3.8", "", "steps of a training", tests=f"{_TRAINERS_FOLDER}/test_spacy.py"),
    LibraryRow("tqdm", "4.70", "each bar, those of libraries too", "a drop-in, `mirror()`", "progressbar_tracker.tqdm",
               "tqdm-script", _DROPIN_TESTS),
    LibraryRow("transformers", "5.24", "each trainer", "epochs and steps",
               tests=f"{_TRAINERS_FOLDER}/test_transformers.py"),
    declare_bars("typer", "0.29", "each `typer.progressbar()`", "_typer"),
    LibraryRow("xgboost", "3.2", "", "rounds", page="boosting", tests=_BOOSTING_TESTS),
)
# fmt: on
