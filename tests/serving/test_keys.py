"""The file of keys, and the commands that make it."""

import json
import subprocess
import sys

import pytest

from crew.errors import InputInvalid, SettingsInvalid
from serving.access.auth import Access
from serving.access.keys import add_key, key_of, load_keys, new_key

HASH = "0" * 64
GOOD = f'name = "ci"\nsha256 = "{HASH}"\ntenant = "acme"\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.toml"


def written(file, *entries: str):
    file.write_text("".join(f"[[keys]]\n{entry}\n" for entry in entries))
    file.chmod(0o600)
    return file


def test_secret_of_a_new_key_opens_and_is_not_in_the_file(file):
    key, secret = new_key(file, tenant="acme", name="ci")

    access = Access(load_keys(file))
    caller = access.caller(authorization=f"Bearer {secret}", host="any", origin="")
    assert caller == key
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_keys_are_appended_to_what_is_written_by_hand(file):
    written(file, GOOD + "requests_per_minute = 60  # by hand")
    new_key(file, tenant="acme")
    new_key(file, tenant="other")

    assert "# by hand" in file.read_text()
    assert [key.tenant for key in load_keys(file)] == ["acme", "acme", "other"]
    assert load_keys(file)[0].requests_per_minute == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no key; make one with: crew keys new"),
        ("[[keys]\n", "is not valid TOML"),
        ("[[key]]\n", "key is not known"),
        (
            f"[[keys]]\n{GOOD}tennant = 'x'\n",
            "keys.1.tennant is not known; a key has: name, sha256",
        ),
        (f"[[keys]]\n{GOOD}streams = 0\n", "keys.1.streams: Input should be greater than or equal"),
        (f"[[keys]]\n{GOOD}streams = '3'\n", "keys.1.streams: Input should be a valid integer"),
        (f"[[keys]]\n{GOOD}".replace(HASH, "secret"), "keys.1.sha256: String should match"),
        (f"[[keys]]\n{GOOD}".replace("acme", "a b"), "keys.1.tenant: String should match"),
        (f"[[keys]]\n{GOOD}" * 2, "two keys have the name 'ci'; remove one of them"),
        (f"[[keys]]\n{GOOD}[[keys]]\n{GOOD}".replace("ci", "cd", 1), "two keys have the sha256"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_the_place(file, content, message):
    file.write_text(content)
    file.chmod(0o600)

    with pytest.raises(SettingsInvalid) as caught:
        load_keys(file)
    assert message in str(caught.value)


def test_file_that_others_may_read_is_refused(file):
    written(file, GOOD).chmod(0o640)

    with pytest.raises(SettingsInvalid, match="mode 0640.*chmod 600"):
        load_keys(file)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        new_key(file, tenant="acme")


def test_file_that_is_not_there_is_refused_with_the_way_on(file):
    with pytest.raises(SettingsInvalid, match="make it with: crew keys new"):
        load_keys(file)
    with pytest.raises(SettingsInvalid, match="cannot be written"):
        new_key(file / "elsewhere", tenant="acme")


def test_name_of_a_key_is_unique_and_plain(file):
    add_key(file, key_of("s", name="ci", tenant="acme"))

    with pytest.raises(InputInvalid, match="has a key 'ci'; choose another --name"):
        new_key(file, tenant="acme", name="ci")
    with pytest.raises(InputInvalid, match="tenant must be 1 to 64"):
        new_key(file, tenant='x"\nsha256 = "')


def test_commands_make_and_list_keys(file):
    def crew(*words: str) -> str:
        command = [sys.executable, "-m", "serving.cli", "keys", *words, "--file", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    told = json.loads(crew("new", "--tenant", "acme", "--name", "ci", "--json"))
    assert crew("new", "--tenant", "acme").startswith("crew_")
    access = Access(load_keys(file))
    assert access.caller(authorization=f"Bearer {told['secret']}", host="", origin="").name == "ci"
    assert json.loads(crew("list", "--json"))[0] == {"name": "ci", "tenant": "acme"}
    assert crew("list").split()[:2] == ["ci", "acme"]
