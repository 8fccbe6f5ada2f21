import pytest

from crew.errors import SettingsInvalid
from serving.access.auth import Access, check_exposure
from serving.access.keys import default_keys
from serving.http.errors import ApiError

HERE = {"authorization": "", "host": "127.0.0.1:8000", "origin": ""}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_this_machine_needs_no_key(host):
    check_exposure(host, [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "0"])
def test_other_machines_need_a_key(host):
    with pytest.raises(SettingsInvalid, match="--api-key"):
        check_exposure(host, [])
    check_exposure(host, ["secret"])


@pytest.mark.parametrize(
    ("authorization", "passes"),
    [
        ("Bearer second", True),
        ("bearer first", True),
        ("Bearer wrong", False),
        ("Bearer ", False),
        ("first", False),
        ("Basic first", False),
        ("", False),
    ],
)
def test_one_of_the_keys_opens(authorization, passes):
    access = Access(default_keys(["first", "second"]))

    assert (status_of(access, HERE | {"authorization": authorization, "host": "any"})) == (
        200 if passes else 401
    )


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, True),
        ({"host": "localhost"}, True),
        ({"host": "[::1]:8000"}, True),
        ({"origin": "http://localhost:3000"}, True),
        ({"host": "rebound.example:8000"}, False),
        ({"host": ""}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
    ],
)
def test_without_keys_a_foreign_page_may_not_call(changed, passes):
    assert status_of(Access(), HERE | changed) == (200 if passes else 403)


def status_of(access: Access, headers: dict[str, str]) -> int:
    try:
        access.caller(**headers)
    except ApiError as error:
        return error.status
    return 200
