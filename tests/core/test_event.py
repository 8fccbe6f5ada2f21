"""Events as they are stored."""

import pytest

from crew.errors import NewerEvent
from crew.event import from_data


@pytest.mark.parametrize("kind", ["step.paused", "model.paused", "nothing"])
def test_a_kind_that_this_release_does_not_know_is_named(kind):
    with pytest.raises(NewerEvent, match=f"of the unknown kind '{kind}'"):
        from_data(kind, "a[0]", {})
