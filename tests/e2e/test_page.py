"""The page in a real browser, on a real server: the models alone are scripted."""

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect
from pydantic import BaseModel

from crew import Agent, Context, Graph, Runtime, workflow
from crew.config import Settings
from crew.llm import ModelReply
from crew.llm.wire import estimate_usage
from crew.testing import ScriptedModel
from serving.app import create_app, serve_http
from serving.listening import listen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("browser")]

SIZES = {"wide": (1400, 900), "phone": (390, 844)}
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
)
ANSWER = """## Memory

An idle actor holds **about 47 MB**, so 8 GB take *170*.

- `ray.remote` alone adds little; see [the guide](https://elsewhere.example/guide).
- ![a pixel](https://elsewhere.example/pixel.png)

<img src="https://elsewhere.example/x.png" onerror="document.title='broken in'">"""
SENTENCE = "An idle Ray actor uses about 47 MB of memory."


class Question(BaseModel):
    text: str


class Search(BaseModel):
    query: str


class Quote(BaseModel):
    text: str
    source: str


class Claim(BaseModel):
    text: str
    quotes: list[Quote] = []
    code: str = ""
    printed: str = ""


class Answer(BaseModel):
    text: str
    claims: list[Claim]


class Held(ScriptedModel):
    """Says its text in pieces of ten characters, each when it is let."""

    def __init__(self, text: str) -> None:
        super().__init__(continues=True)
        self.text, self.permits = text, asyncio.Semaphore(0)

    def let(self, pieces: int = 1000) -> None:
        for _ in range(pieces):
            self.permits.release()

    async def complete(self, request, *, on_text=None):
        for start in range(len(request.partial), len(self.text), 10):
            await self.permits.acquire()
            if on_text is not None:
                on_text(self.text[start : start + 10])
        usage = estimate_usage(request, self.text, ())
        return ModelReply(self.text, usage=usage, model="held")


class Team:
    """The workflows that are served, and the models that they wait for."""

    def __init__(self) -> None:
        self.searching, self.writing = Held(SENTENCE), Held(ANSWER)
        searcher = Agent("searcher", model=self.searching, instructions="You search.")
        writer = Agent("writer", model=self.writing, instructions="You write Markdown.")
        desk = Graph("desk", input=Question, output=Answer)

        @desk.node
        async def plan(ctx: Context, question: Question) -> list[Search]:
            return [Search(query=word) for word in ("one", "a hundred", "how many")]

        @desk.node
        async def look_up(ctx: Context, search: Search) -> Claim:
            said = (await ctx.run(searcher, search.query)).output
            return Claim(text=said, quotes=[Quote(text=said, source="docs/actors.md")])

        @desk.node
        async def summarise(ctx: Context, claims: list[Claim]) -> Answer:
            said = await ctx.run(writer, f"turn {len(ctx.thread.messages) // 2 + 1}", emit=True)
            worked_out = Claim(text="170 fit.", code="print(8000 // 47)", printed="170\n")
            return Answer(text=said.output, claims=[claims[0], worked_out])

        @workflow
        async def refunds(ctx: Context, text: str) -> str:
            if not await ctx.ask(bool, "Pay it back?", key="pay"):
                return "Nothing was paid."
            name = await ctx.ask(str, "To whom?", key="name")
            order = await ctx.ask(Search, "Which order?", key="order")
            return f"{name} was paid for {order.query}."

        @workflow
        async def racing(ctx: Context, text: str) -> str:
            held = asyncio.create_task(ctx.run(searcher, text, key="held"))
            asked = asyncio.create_task(ctx.ask(str, "Still needed?", key="a/b"))
            await ctx.ask(bool, "Is it enough?", key="enough")
            held.cancel()
            asked.cancel()
            return await ctx.ask(str, "What then?", key="then")

        @workflow
        async def approved(ctx: Context, text: str) -> str:
            agreed = await ctx.ask(bool, f"Refund {text}?", key="agreed", to="manager")
            return "refunded" if agreed else "kept"

        self.workflows = [desk, refunds, racing, approved]


class Site:
    """The served page, and a browser's page that shows it."""

    def __init__(self, team: Team, runtime: Runtime, folder: Path) -> None:
        self.team, self.runtime, self.folder = team, runtime, folder
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.expected = ""
        self.troubles: list[str] = []
        self.page: Page

    @asynccontextmanager
    async def served(self, **options):
        settings = self.runtime.settings
        app = create_app(
            self.runtime, self.team.workflows, settings=settings, heartbeat=1, **options
        )
        serving = asyncio.create_task(serve_http(app, listener=self.listener))
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def show(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(20_000)
        page.on("console", lambda m: m.type == "error" and self._notice(m.text))
        page.on("pageerror", lambda error: self._notice(f"uncaught: {error}"))
        page.on("request", lambda r: self._notice(r.url) if not r.url.startswith(self.url) else 0)
        await page.goto(self.url)

    def _notice(self, trouble: str) -> None:
        if not self.expected or self.expected not in trouble:
            self.troubles.append(trouble)

    async def ask(self, text: str, workflow: str = "") -> None:
        await expect(self.page.locator("#workflow option").first).to_be_attached()
        if workflow:
            await self.page.select_option("#workflow", workflow)
        await self.page.fill("#question", text)
        await self.page.keyboard.press("Enter")

    def turn(self, number: int = 1):
        return self.page.locator(f".turn:nth-child({number})")

    def node(self, name: str):
        return self.page.locator(f'[data-node="{name}"]')

    async def picture(self, name: str) -> None:
        for theme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=theme)
            path = self.folder / f"page-{name}-{theme}.png"
            await self.page.screenshot(path=path, animations="disabled")


@pytest.fixture
def team():
    return Team()


@pytest.fixture(params=["wide"])
async def site(request, team, tmp_path):
    """A page of the size that the test asks for; at its end nothing went wrong in the browser."""
    folder = Path(os.environ.get("CREW_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[request.param]
    store = f"sqlite:///{tmp_path}/runs.db"
    async with (
        Runtime(workflows=team.workflows, settings=Settings(store=store)) as runtime,
        async_playwright() as tools,
    ):
        chromium = shutil.which("chromium")
        assert chromium, "chromium is not installed; apt-get install chromium"
        browser = await tools.chromium.launch(executable_path=chromium, args=FLAGS.split())
        page = await browser.new_page(viewport={"width": width, "height": height})
        found = Site(team, runtime, folder)
        found.page = page
        yield found
        await browser.close()
    assert found.troubles == []


async def test_graph_lights_up_and_the_answer_grows(site, team):
    async with site.served():
        await site.show(site.page)
        await site.picture("empty")
        await site.ask("How much memory does an idle actor need?")
        await expect(site.node("look_up")).to_have_attribute("data-state", "running")
        await expect(site.node("look_up")).to_contain_text("3 running")
        await expect(site.node("plan")).to_contain_text("done")
        await site.picture("searching")
        team.searching.let()
        await expect(site.node("look_up")).to_contain_text("done × 3")
        team.writing.let(6)
        await expect(site.turn().locator(".answer")).to_contain_text("about 47 MB")
        await expect(site.turn()).to_have_attribute("data-status", "running")
        await site.picture("writing")
        team.writing.let()
        await expect(site.turn()).to_have_attribute("data-status", "completed")
        await expect(site.node("output")).to_have_attribute("data-state", "done")
        await site.picture("done")


async def test_question_asked_while_the_page_loads_is_answered_on_it(site, team):
    """Each of the page's own requests is slow: those of its beginning, and those of a turn."""
    team.searching.let()
    team.writing.let()

    async def late(route):
        await asyncio.sleep(0.3)
        await route.continue_()

    async with site.served():
        await site.page.route("**/v1/models/*", late)
        await site.page.route("**/v1/runs?*", late)
        await site.show(site.page)
        await site.ask("First?")
        await expect(site.turn(1)).to_have_attribute("data-status", "completed")
        await site.page.reload()
        await site.ask("Second?")
        await expect(site.turn(2)).to_have_attribute("data-status", "completed")
        await expect(site.turn(1)).to_contain_text("First?")
        await expect(site.page.locator(".turn")).to_have_count(2)
        await site.page.unroute_all(behavior="wait")


async def test_answer_is_text_whatever_a_model_writes(site, team):
    team.searching.let()
    team.writing.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        answer = site.turn().locator(".answer")
        await expect(answer.locator("strong")).to_have_text("about 47 MB")
        await expect(answer).to_contain_text("[image: a pixel]")
        await expect(answer).to_contain_text("the guide (https://elsewhere.example/guide)")
        await expect(answer).to_contain_text("<img src=")
        await expect(answer.locator("img")).to_have_count(0)
        await expect(site.page).to_have_title("How much? · crew")


async def test_run_is_looked_into(site, team):
    team.searching.let()
    team.writing.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        await expect(site.turn()).to_have_attribute("data-status", "completed")
        sources = site.turn().locator(".sources li")
        await expect(sources.nth(0)).to_contain_text("docs/actors.md")
        await expect(sources.nth(1)).to_contain_text("print(8000 // 47)")
        await expect(site.page.locator('[data-agent="searcher"]')).to_contain_text("3 tasks")
        await site.page.focus("#tab-Agents")
        await site.page.keyboard.press("ArrowRight")
        prompt = site.page.locator(".prompt").last
        await prompt.locator("summary").click()
        await expect(prompt.locator(".message.system")).to_contain_text("You write Markdown.")
        await expect(prompt.locator(".message.reply")).to_contain_text("## Memory")
        await site.page.keyboard.press("Escape")
        await site.page.click("#tab-Events")
        await site.page.locator(".events summary").first.click()
        await expect(site.page.locator(".events li").first).to_contain_text('"workflow": "desk"')
        await site.picture("events")


async def test_reload_in_mid_stream_goes_on_with_the_rest(site, team):
    team.searching.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        team.writing.let(6)
        answer = site.turn().locator(".answer")
        await expect(answer).to_contain_text("about 47 MB")
        await site.page.reload()
        await expect(answer).to_contain_text("about 47 MB")
        await expect(site.turn().locator(".asked")).to_have_text("How much?")
        team.writing.let()
        await expect(answer).to_contain_text("broken in")
        await expect(answer.locator("h4")).to_have_count(1)


async def test_stream_that_broke_is_taken_up_again(site, team):
    team.searching.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        team.writing.let(6)
        answer = site.turn().locator(".answer")
        await expect(answer).to_contain_text("about 47 MB")
        site.expected = "ERR_"
    await expect(site.page.locator("#link")).to_contain_text("connection lost")
    team.writing.let()
    site.listener = listen("127.0.0.1", site.port)
    async with site.served():
        await expect(answer).to_contain_text("broken in")
        await expect(answer.locator("h4")).to_have_count(1)
        await expect(site.page.locator("#link")).to_be_empty()


async def test_second_turn_knows_the_first_and_both_are_there_after_a_reload(site, team):
    team.searching.let()
    team.writing.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("First?")
        await expect(site.turn(1)).to_have_attribute("data-status", "completed")
        await site.ask("Second?")
        await expect(site.turn(2)).to_have_attribute("data-status", "completed")
        await site.page.reload()
        await expect(site.turn(1).locator(".answer strong")).to_have_text("about 47 MB")
        await expect(site.turn(2).locator(".answer strong")).to_have_text("about 47 MB")
        await expect(site.page.locator("#thread-list a")).to_have_count(1)
        await site.page.click("#tab-Prompts")
        last = site.page.locator(".prompt").last
        await last.locator("summary").click()
        await expect(last.locator(".message.user")).to_contain_text("turn 2")


@pytest.mark.parametrize("site", ["wide", "phone"], indirect=True)
async def test_questions_of_a_run_are_answered(site):
    site.expected = "400 (Bad Request)"  # the browser's own line about the refused answer
    async with site.served():
        await site.show(site.page)
        await site.ask("My lamp is broken.", "refunds")
        card = site.page.locator(".ask")
        await expect(card).to_contain_text("Pay it back?")
        await site.picture(f"question-{site.page.viewport_size['width']}")
        await card.get_by_text("Yes").click()
        await expect(card).to_contain_text("To whom?")
        await card.locator("textarea").fill("Ada")
        await site.page.keyboard.press("Enter")
        await expect(card).to_contain_text("Which order?")
        await card.locator("textarea").fill('{"query": 7}')
        await card.get_by_role("button", name="Answer").click()
        await expect(card.locator(".trouble")).to_contain_text("should be a valid string")
        await card.locator("textarea").fill('{"query": "lamp 7"}')
        await card.get_by_role("button", name="Answer").click()
        await expect(site.turn().locator(".answer")).to_have_text("Ada was paid for lamp 7.")


@pytest.mark.parametrize("site", ["wide", "phone"], indirect=True)
async def test_question_to_somebody_else_is_answered_where_questions_are_listed(site):
    is_phone = site.page.viewport_size["width"] < 600
    async with site.served():
        await site.show(site.page)
        await site.ask("7 euros", "approved")
        turn, inbox = site.turn(), site.page.locator("#inbox")
        await expect(turn).to_contain_text("waiting for manager")
        await expect(turn.locator(".ask")).to_have_count(0)
        if is_phone:
            await site.page.click("#show-threads")
        await expect(inbox.locator("#inbox-count")).to_have_text("1")
        await inbox.locator("summary").click()
        card = inbox.locator(".ask")
        await expect(card).to_contain_text("Refund 7 euros?")
        await expect(inbox).to_contain_text("for manager")
        await site.picture(f"inbox-{site.page.viewport_size['width']}")
        await card.get_by_text("Yes").click()
        await expect(inbox).to_contain_text("Nothing is asked.")
        await inbox.locator("summary").click()
        await expect(turn.locator(".answer")).to_have_text("refunded")


async def test_cancelled_branch_asks_and_works_no_more(site, team):
    async with site.served():
        await site.show(site.page)
        await site.ask("go", "racing")
        cards, agent = site.page.locator(".ask"), site.page.locator('[data-agent="searcher"]')
        await expect(cards).to_have_count(2)
        await expect(agent).to_contain_text("running")
        await cards.get_by_text("Yes").click()
        await expect(cards).to_have_count(1)
        await expect(cards).to_contain_text("What then?")
        await expect(agent).not_to_contain_text("running")
        await site.page.click("#tab-Prompts")
        await expect(site.page.locator(".prompt")).to_contain_text("racing[0]/=held/model.0")
        await expect(site.page.locator(".prompt")).to_contain_text("cancelled")


@pytest.mark.parametrize("site", ["wide", "phone"], indirect=True)
async def test_run_is_cancelled(site, team):
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        await expect(site.turn().locator(".activity")).to_contain_text("look_up")
        await site.page.click("#stop")
        await expect(site.turn()).to_have_attribute("data-status", "cancelled")
        (run,) = await site.runtime.runs()
        assert await run.status() == "cancelled"
        await site.picture(f"cancelled-{site.page.viewport_size['width']}")


@pytest.mark.parametrize("site", ["phone"], indirect=True)
async def test_run_and_conversations_open_over_the_chat_where_there_is_little_room(site, team):
    team.searching.let()
    team.writing.let()
    async with site.served():
        await site.show(site.page)
        await site.ask("How much?")
        await expect(site.turn()).to_have_attribute("data-status", "completed")
        await site.picture("phone-done")
        await site.page.click("#show-run")
        await expect(site.node("summarise")).to_be_visible()
        await site.picture("phone-run")
        await site.page.keyboard.press("Escape")
        await expect(site.node("summarise")).to_be_hidden()
        await site.page.click("#show-threads")
        await site.page.locator("#thread-list a").click()
        await expect(site.turn().locator(".answer strong")).to_be_visible()
        wide = await site.page.evaluate("document.documentElement.scrollWidth")
        assert wide == SIZES["phone"][0]


async def test_key_is_asked_for_and_kept_in_the_tab_alone(site, team):
    site.expected = "401 (Unauthorized)"  # the browser's own line about the call without a key
    async with site.served(api_keys=["secret"]):
        await site.show(site.page)
        await expect(site.page.locator("#notice")).to_contain_text("needs a key")
        await expect(site.page.locator("#key")).to_be_focused()
        await site.page.keyboard.type("secret")
        await site.page.keyboard.press("Enter")
        await expect(site.page.locator("#notice")).to_be_hidden()
        await site.ask("My lamp is broken.", "refunds")
        await expect(site.page.locator(".ask")).to_contain_text("Pay it back?")
        kept = await site.page.evaluate("JSON.stringify(localStorage)")
        assert "secret" not in kept
