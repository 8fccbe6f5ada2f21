import contextlib
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.endpoint import PAGE, Endpoint
from tests.place import Place
from tests.postgres import Server

with contextlib.suppress(ImportError):  # the environment of tests/vllm is without
    from hypothesis import settings

    # An example of a millisecond takes a second where the processor is wanted elsewhere.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory):
    """A folder for what is temporary, short enough for sockets: a killed process leaves some."""
    tmp_path_factory.getbasetemp()  # which stays where it is
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    folder = Path(tempfile.mkdtemp(prefix="crew-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    yield
    tempfile.tempdir = before
    if variable is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = variable
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def garbage_of_ray(request):
    """Free what a test of Ray has left where its warnings are not another test's."""
    yield
    if request.node.get_closest_marker("ray"):
        gc.collect()


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL server, one for each process of tests that asks for it."""
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server):
    """An empty database of its own."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def endpoint():
    with Endpoint() as serving:
        yield serving


@pytest.fixture
def place(tmp_path):
    """A working directory with a folder of documents."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "actors.md").write_text(PAGE)
    place = Place(tmp_path)
    yield place
    place.end()
