"""How tests are dealt out to processes: what is made once is made by one of them, the dear first.

`pytest -n` deals out folders, since most have something dear that all their tests use. Those of
`tests/export` have not and are dealt out file by file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).resolve().parent
BY_FILE = ("export",)
# Longest first, by their measured time with empty caches; the others last, in their own order. So
# no process is left alone with a long one at the end.
DEAR = (
    "export/test_bundle.py",
    "devices",
    "linux",
    "micro/engine",
    "language_native",
    "experts",
    "export/test_blocks.py",
    "targets",
    "export/test_structure.py",
    "export/test_onnx.py",
    "runtime",
    "elastic",
    "bench",
    "training",
    "micro",
    "core",
)


def unit_of(path: str) -> str:
    """The folder of a test file below `tests`, or the file itself."""
    folder, _, _ = path.rpartition("/")
    return path if folder.partition("/")[0] in BY_FILE else folder


def rank_of(path: str) -> int:
    """Place in `DEAR`."""
    unit = unit_of(path)
    return DEAR.index(unit) if unit in DEAR else len(DEAR)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank_of(item.path.relative_to(TESTS).as_posix()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path, _, _ = nodeid.partition("::")
            return unit_of(path.removeprefix(f"{TESTS.name}/"))

    config.option.loadscopereorder = False  # by number of tests, which says nothing
    scheduler: Any = ByUnit(config, log)
    return scheduler  # type: ignore[no-any-return]
