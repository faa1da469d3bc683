"""Simple rewordings of an English query: article, number, "all the …", phrase or sentence.

They are tried, not believed: a rewording that means nothing loses.
"""

import re

import inflect

_SENTENCE = re.compile(
    r"^(?:where (?:is|are)|which one is|can you (?:find|see)|could you point at|i am looking for|"
    r"(?:please )?(?:segment|find|show(?: me)?|mark|outline))\s+(?P<thing>.+?)[.?!]*$",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:all of the|all the|all|every|each|any|the|an?)\s+", re.IGNORECASE)
_REST = re.compile(
    r"\s+(?:that|which|who|whose|in|on|at|of|to|by|with|near|behind|under|over|above|below|"
    r"next|between|left|right|furthest)\s",
    re.IGNORECASE,
)


def variations(text: str) -> list[str]:
    """Return other ways to say a query, at most eleven, the query itself left out."""
    thing = _thing(text)
    if not thing:
        return []
    end = _REST.search(thing)
    head, rest = (thing[: end.start()], thing[end.start() :]) if end else (thing, "")
    one, many = (f"{form}{rest}" for form in _numbers(head))
    article = inflect.engine().a(one)
    tried = [
        one,
        f"the {one}",
        article,
        f"every {one}",
        many,
        f"the {many}",
        f"all the {many}",
        f"Where is the {one}?",
        f"Please segment the {one}.",
        f"Where are the {many}?",
        f"Please segment all the {many}.",
    ]
    return [other for other in dict.fromkeys(tried) if other != text]


def _thing(text: str) -> str:
    """Return what a query names, without article; empty for a sentence of an unknown kind."""
    said = " ".join(text.split())
    sentence = _SENTENCE.match(said)
    if sentence:
        said = sentence["thing"]
    elif said.endswith((".", "?", "!")):
        return ""
    return _LEAD.sub("", said, count=1)


def _numbers(head: str) -> tuple[str, str]:
    """Return a noun phrase in the singular and in the plural."""
    words = inflect.engine()
    before, _, noun = head.rpartition(" ")
    lead = f"{before} " if before else ""
    single = words.singular_noun(noun)
    if single and words.plural_noun(single) == noun:
        return f"{lead}{single}", head
    return head, f"{lead}{words.plural_noun(noun)}"
