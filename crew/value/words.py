"""Words as the search index knows them: of any script, without stop words, cut to their stems."""

import re
import unicodedata

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:\.\d+)*")
_IS_CJK = re.compile(rf"[{_CJK}]")
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ed", "ies", "es", "s", "ly", "er", "ers")

_STOP_WORDS_TEXT = (
    "a about after all also an and any are as at be because been but by can could did do does "
    "for from had has have how i if in into is it its may me more most much my no not of on "
    "one only or our out should so some such than that the their them then there these they "
    "this to up was we were what when where which while who why will with would you your many"
)
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


def index_terms(text: str) -> list[str]:
    """Return the terms under which a text is found: stems, and bigrams of CJK runs.

    A single CJK character is a term too, so that words of one character can be found.
    """
    return [term for run in _RUN.findall(_folded(text)) for term in _terms(run, single=True)]


def query_terms(text: str) -> list[str]:
    """Return a query's terms, each once, in order; stop words only if there is nothing else."""
    runs = _RUN.findall(_folded(text))
    meaning = [run for run in runs if run not in STOP_WORDS] or runs
    return list(dict.fromkeys(term for run in meaning for term in _terms(run, single=False)))


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    without_accents = "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFKC", without_accents)


def _terms(run: str, *, single: bool) -> list[str]:
    if not _IS_CJK.match(run):
        return [stem(run)]
    pairs = [run[i : i + 2] for i in range(len(run) - 1)]
    return pairs + list(run) if single else pairs or [run]


def stem(word: str) -> str:
    """Cut an English word's ending, the longest that leaves four letters or more.

    A coarse cousin of Porter's algorithm (1980): enough to join `restart`, `restarts`,
    `restarted`; short words and those with digits stay as they are.
    """
    if not word.isalpha() or not word.isascii():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= (3 if ending == "s" else 4):
            if ending == "s" and word.endswith(("ss", "us", "is")):
                return word
            return word[: -len(ending)].removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word
