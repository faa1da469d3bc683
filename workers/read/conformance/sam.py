"""Cases of kind ``static``: what SAM computes without an image."""

from collections.abc import Iterator

from workers.read.conformance.cases import CaseResult, Values, compare
from workers.read.conformance.subject import Subject


def names(subject: Subject, kind: str) -> list[str]:
    """Every recorded file of the kind is a case."""
    return subject.files(kind)


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare SAM's positional encoding of the image grid (P, g, g)."""
    encoding = subject.model.sam.prompt_encoder.get_dense_pe()[0]
    computed = {"dense_pe": Values(encoding, strided=(1, 2))}
    return compare(name, kind, subject.recorded(name), computed)
