"""Changes the text of a query in a run file and nothing else: comments, order and style stay."""

import difflib
import json
from collections.abc import Iterator, Mapping

import yaml

from pipeline.errors import ConfigError

Texts = Mapping[str, str]
"""What queries are to say, by what they say now."""


def reworded(source: str, path: str, changes: Texts) -> str:
    """Return a run file's content with other texts in its list of queries.

    Args:
        source: the content; it must be a run file's.
        path: where it lies, for messages.
        changes: the texts.

    Raises:
        ConfigError: a text is not in the list, or cannot be changed without changing more.
    """
    found = list(_query_texts(yaml.compose(source, yaml.SafeLoader)))
    nodes = {node.value: node for node in found}
    for text in changes:
        times = sum(node.value == text for node in found)
        if times != 1:
            raise ConfigError(
                f"{path}: source.queries has the text {text!r} {times} times; change it by hand"
            )
    content = source
    wanted = yaml.safe_load(source)
    for text in sorted(changes, key=lambda text: -nodes[text].start_mark.index):
        for query in wanted["source"]["queries"]:
            if query["text"] == text:
                query["text"] = changes[text]
                break
        content = _replaced(content, nodes[text], changes[text])
    if yaml.safe_load(content) != wanted:
        raise ConfigError(f"{path}: cannot be changed without changing more; change it by hand")
    return content


def diff(before: str, after: str, path: str) -> str:
    """Return the change as a unified diff."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        path,
        path,
        n=1,
    )
    return "".join(lines)


def _replaced(content: str, node: yaml.ScalarNode, text: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    plain = text if node.style is None and _is_plain(text) else json.dumps(text, ensure_ascii=False)
    return content[:start] + plain + content[end:]


def _is_plain(text: str) -> bool:
    """Return whether a text means itself without quotes, in a flow mapping as well."""
    try:
        return bool(yaml.safe_load(f"{{text: {text}}}") == {"text": text})
    except yaml.YAMLError:
        return False


def _query_texts(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    queries = _value(_value(root, "source"), "queries")
    if isinstance(queries, yaml.SequenceNode):
        for entry in queries.value:
            text = _value(entry, "text")
            if isinstance(text, yaml.ScalarNode):
                yield text


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)
