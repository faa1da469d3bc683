"""What is asked of the model: query to question, question to prompt.

The sentences are those that the checkpoints were trained with, so they belong to a checkpoint's
settings: published scores move with them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from workers.read.errors import CheckpointError, QueryError
from workers.read.tokenizer import IM_END, IM_START, IMAGE_PLACEHOLDER, SEG

Person = Literal["human", "user"]
Form = Literal["auto", "phrase", "sentence"]

SYSTEM = (
    "A chat between a curious {person} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {person}'s questions."
)
PHRASE = "What is {query} in this image? Please output segmentation mask."
SENTENCE = "{query} Please output segmentation mask."
PRESENCE = (
    "Can you confirm if {query} is present in this image? "
    "If it is, kindly provide the segmentation map. If it isn't, please state so and, "
    "if appropriate, mention any objects that might be mistaken for {query}."
)
END = "</s>"
RESERVED = (IMAGE_PLACEHOLDER, IM_START, IM_END, SEG, "<s>", END, "<unk>")
QUESTION_WORDS = {"what", "which", "who", "whom", "whose", "where", "when", "why", "how"}
SENTENCE_ENDS = (".", "?", "!", "\u3002", "\uff1f", "\uff01")  # and their full-width forms


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How a checkpoint wants to be asked.

    ``person`` chooses the system sentence. The templates hold ``{query}``: ``phrase`` names a
    thing, ``sentence`` is a question or an instruction of its own. ``presence`` takes the place of
    ``phrase`` when ``ask_presence`` says that objects may be absent.

    Raises:
        CheckpointError: A template lacks ``{query}`` or ``person`` is unknown.
    """

    person: Person = "human"
    phrase: str = PHRASE
    sentence: str = SENTENCE
    presence: str = PRESENCE
    ask_presence: bool = False

    def __post_init__(self) -> None:
        if self.person not in ("human", "user"):
            raise CheckpointError(f'prompt.person is {self.person!r}: write "human" or "user"')
        for name in ("phrase", "sentence", "presence"):
            template = getattr(self, name)
            if not isinstance(template, str) or "{query}" not in template:
                raise CheckpointError(f"prompt.{name} is {template!r}: it has to hold {{query}}")

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "PromptSettings":
        """Settings from a decoded JSON object; what it leaves out has the default.

        Raises:
            CheckpointError: A key is unknown or a value of the wrong kind.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(
                f"prompt has no setting {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        if not isinstance(values.get("ask_presence", False), bool):
            raise CheckpointError(
                f"prompt.ask_presence is {values['ask_presence']!r}: true or false"
            )
        return cls(**values)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, str | bool]:
        """The settings as a JSON object, the inverse of :meth:`from_dict`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FormedQuery:
    """A query whose form its author tells; ``auto`` judges it by :func:`is_sentence`."""

    text: str
    form: Form = "auto"


def check_query(text: str, max_characters: int) -> str:
    """The query with its white space collapsed, if the model can be asked it.

    Raises:
        QueryError: It is empty, longer than ``max_characters``, holds half a surrogate pair, or
            one of the tokens that only the prompt may hold.
    """
    if len(text) > max_characters:
        raise QueryError(f"the query has {len(text)} characters, more than {max_characters}")
    query = " ".join(text.split())
    if not query:
        raise QueryError("the query is empty; write a phrase or a question")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the query is not valid Unicode: {error.reason}") from error
    for token in RESERVED:
        if token in query:
            raise QueryError(f"the query holds {token}, which is reserved for the prompt")
    return query


def is_sentence(query: str) -> bool:
    """Whether the query stands alone: it ends as a sentence or starts with a question word.

    Anything else is taken as a phrase that names a thing.
    """
    words = query.split()
    return query.rstrip().endswith(SENTENCE_ENDS) or (
        len(words) > 1 and words[0].lower() in QUESTION_WORDS
    )


def question(query: str, settings: PromptSettings, form: Form = "auto") -> str:
    """Put a query into the checkpoint's template for its form."""
    if form == "sentence" or (form == "auto" and is_sentence(query)):
        template = settings.sentence
    else:
        template = settings.presence if settings.ask_presence else settings.phrase
    return template.replace("{query}", query.strip())


def prompt(question: str, settings: PromptSettings, answer: str | None = None) -> str:
    """The whole prompt, up to where the answer begins, or with ``answer`` and the end token."""
    system = SYSTEM.replace("{person}", settings.person)
    image = f"{IM_START}{IMAGE_PLACEHOLDER}{IM_END}"
    asked = f"{system} USER: {image}\n{question} ASSISTANT:"
    return asked if answer is None else f"{asked} {answer}{END}"
