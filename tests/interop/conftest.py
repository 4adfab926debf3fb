from types import SimpleNamespace

import pytest
from exported import make_toy


@pytest.fixture
def toy() -> SimpleNamespace:
    """See `make_toy`."""
    return make_toy()
