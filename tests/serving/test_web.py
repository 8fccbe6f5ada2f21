import re

import httpx2
import pytest

from serving.web import PATHS


@pytest.fixture
async def site(endpoint):
    base = endpoint.url.removesuffix("/v1")
    async with httpx2.AsyncClient(base_url=base, timeout=10) as client:
        yield client


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_page_may_load_nothing_but_its_own_files(site, path):
    answer = await site.get(path)
    policy = answer.headers["content-security-policy"]

    assert answer.status_code == 200
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_file_that_is_known_is_not_sent_again(site):
    first = await site.get("/web/app.js")
    again = await site.get("/web/app.js", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (again.status_code, again.content) == (304, b"")


async def test_every_file_that_the_page_names_is_served(site):
    for path in PATHS:
        text = (await site.get(path)).text
        named = {f"/web/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
        named |= {f"/{name}" for name in re.findall(r'(?:src|href)="([^"#]+)"', text)}
        assert named <= PATHS, path


@pytest.mark.parametrize(
    "path", ["/web/__init__.py", "/web/index.html", "/web/../routes.py", "/web/"]
)
async def test_nothing_else_of_the_folder_is_served(site, path):
    assert (await site.get(path)).status_code == 404


async def test_page_is_shown_without_a_key_and_its_api_is_not(tmp_path, opening):
    async with opening(f"sqlite:///{tmp_path}/runs.db", api_keys=["k1"]) as endpoint:
        base = endpoint.url.removesuffix("/v1")
        async with httpx2.AsyncClient(base_url=base) as client:
            page, api = await client.get("/"), await client.get("/v1/runs")

    assert (page.status_code, api.status_code) == (200, 401)
