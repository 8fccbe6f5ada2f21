"""The documents a question is answered from: which folder, what is found, what stands in it."""

from pathlib import Path

from crew.config import load_settings
from crew.team.searcher import Quote
from crew.team.summariser import Claim, summariser
from crew.tool.quote import quote_stands
from crew.tool.search import Index, Passage

MOST_PASSAGES = 12
MOST_CLAIMS = 8
TOY_NOTE = (
    "(The small embedded model answered, which can do little more than choose quotes. A real model "
    "is one setting away: CREW_BASE_URL, with CREW_MODEL and CREW_API_KEY.)"
)
_PACKAGE = Path(__file__).resolve().parents[1]


def documents_folder(given: str = "") -> str:
    """Return the folder to read: the given one, that of the settings, or the project's own docs."""
    if chosen := given or load_settings().docs:
        return str(Path(chosen).resolve())
    shipped = _PACKAGE / "corpus"
    return str(shipped if shipped.is_dir() else _PACKAGE.parent / "docs")


async def find(docs: str, query: str) -> list[Passage]:
    """Return the passages of a folder that a query's words lead to, best first.

    Raises:
        ToolError: the folder is missing.
    """
    return await Index(docs).search(query, limit=MOST_PASSAGES)


async def proven(docs: str, claims: list[Claim]) -> list[Claim]:
    """Return the claims that are proven, each once, numbers that were worked out first.

    A claim is proven if it has quotes, or code that ran, and each of its quotes stands word for
    word in the source it names.
    """
    index = Index(docs)
    kept: dict[str, Claim] = {}
    for claim in sorted(claims, key=lambda claim: not claim.code):
        standing = [await _stands(index, quote) for quote in claim.quotes]
        if all(standing) and (standing or claim.code):
            kept.setdefault(claim.text, claim)
    return list(kept.values())[:MOST_CLAIMS]


def is_toy() -> bool:
    """Tell whether the team's model is the small embedded one, whose wording cannot be trusted."""
    return not load_settings().default.base_url and summariser.model is None


async def _stands(index: Index, quote: Quote) -> bool:
    return quote_stands(quote.text, await index.read(quote.source))
