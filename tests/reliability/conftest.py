"""Which of the many combinations run each time, and which with the long tests."""

from __future__ import annotations

import pytest

_SAMPLED = ("test_shared_videos.py", "test_lost_with_success.py")
_EACH = 3


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every scene runs each time in one combination of its parameters at least; one in three of the others does."""
    seen: dict[str, int] = {}
    for item in items:
        if item.path.name not in _SAMPLED:
            continue
        scene = item.nodeid.partition("[")[0]
        number = seen[scene] = seen.get(scene, -1) + 1
        if number % _EACH:
            item.add_marker(pytest.mark.long)
