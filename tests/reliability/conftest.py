"""Select which combinations of parameters run each time, and which only with the long tests."""

from __future__ import annotations

import pytest

_SAMPLED = ("test_shared_videos.py", "test_lost_with_success.py")
_EACH = 3


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test runs in at least one combination of its parameters. Of the others, one in three runs each time."""
    seen: dict[str, int] = {}
    for item in items:
        if item.path.name not in _SAMPLED:
            continue
        scene = item.nodeid.partition("[")[0]
        number = seen[scene] = seen.get(scene, -1) + 1
        if number % _EACH:
            item.add_marker(pytest.mark.long)
