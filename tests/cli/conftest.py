from __future__ import annotations

import pytest
from cli.mini import Mini, build_mini


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return build_mini(tmp_path_factory.mktemp("mini"))
