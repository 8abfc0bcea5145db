"""Select which combinations of parameters run each time, and which only with the long tests."""

from __future__ import annotations

import pytest
from helpers import combinations_to_run

_SAMPLED = ("test_shared_videos.py", "test_lost_with_success.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test runs in at least one combination of its parameters. Of the others, one in three runs each time."""
    each_time = {*combinations_to_run(items, 3)}
    for item in items:
        if item.path.name in _SAMPLED and item not in each_time:
            item.add_marker(pytest.mark.long)
