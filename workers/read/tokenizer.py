"""The tokenizer of a READ checkpoint: SentencePiece, and the added tokens around it.

The checkpoints were trained with the "slow" LLaMA tokenizer of transformers 4.31 in its legacy
mode. What newer tokenizers do differently, and what is kept here:

- text on both sides of an added token is stripped, so the newline after ``<im_end>`` and the spaces
  around ``[SEG]`` vanish;
- every stretch of text between added tokens starts a new word: "." after ``[SEG]`` is "▁.".
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from workers.read.errors import CheckpointError

IMAGE_PLACEHOLDER = "<image>"
IMAGE_TOKEN_ID = -200
SEG, IM_START, IM_END = "[SEG]", "<im_start>", "<im_end>"


class ReadTokenizer:
    """Text to token ids and back, as the original's tokenizer does it.

    Args:
        pieces: The checkpoint's SentencePiece model.
        added: Added tokens with their ids; must hold ``[SEG]``, ``<im_start>`` and ``<im_end>``.
        special: Contents of the roles ``bos_token``, ``eos_token``, ``unk_token``, ``pad_token``.
    """

    def __init__(
        self, pieces: SentencePieceProcessor, added: dict[str, int], special: dict[str, str]
    ) -> None:
        self._pieces = pieces
        self._added = added
        self._added_names = {id_: token for token, id_ in added.items()}
        self._special = {self._control_id(content): content for content in special.values()}
        whole = sorted((*added, *self._special.values()), key=len, reverse=True)
        self._whole = re.compile("(" + "|".join(map(re.escape, whole)) + ")")
        self.seg_id, self.im_start_id, self.im_end_id = added[SEG], added[IM_START], added[IM_END]
        self.bos_id = self._control_id(special["bos_token"])
        self.eos_id = self._control_id(special["eos_token"])
        self.unk_id = self._control_id(special["unk_token"])
        self.pad_id = self._control_id(special["pad_token"])

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ReadTokenizer":
        """Read ``tokenizer.model`` and the JSON files beside it.

        Raises:
            CheckpointError: A file is missing or unreadable, or a needed token is not there.
        """
        folder = Path(folder)
        pieces = SentencePieceProcessor()
        model = folder / "tokenizer.model"
        try:
            pieces.LoadFromSerializedProto(model.read_bytes())
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{model}: not a SentencePiece model ({error})") from error
        added = _read_json(folder / "added_tokens.json")
        missing = [token for token in (SEG, IM_START, IM_END) if token not in added]
        if missing:
            raise CheckpointError(
                f"{folder / 'added_tokens.json'}: no token {', '.join(missing)}; READ needs them"
            )
        return cls(pieces, added, _special_tokens(folder))

    def __len__(self) -> int:
        """Number of ids, added tokens included."""
        return max(self._pieces.GetPieceSize(), max(self._added.values()) + 1)

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of ``text``; ``bos`` puts the start token in front."""
        ids = [self.bos_id] if bos else []
        for segment, is_whole in self._segments(text):
            ids += [self._control_id(segment)] if is_whole else self._pieces.EncodeAsIds(segment)
        return ids

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt with start token; -200 stands where ``<image>`` does."""
        first, *others = prompt.split(IMAGE_PLACEHOLDER)
        ids = self.encode(first)
        for other in others:
            ids += [IMAGE_TOKEN_ID, *self.encode(other, bos=False)]
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ``ids``; start, end and padding tokens are left out with ``skip_special``."""
        kept = [id_ for id_ in ids if not (skip_special and id_ in self._special)]
        parts = []
        for is_added, group in groupby(kept, key=self._added_names.__contains__):
            if is_added:
                parts += [self._added_names[id_] for id_ in group]
            else:
                parts.append(self._decode_pieces(list(group)))
        return " ".join(parts)

    def _decode_pieces(self, ids: list[int]) -> str:
        """Text of ids without added tokens; text before a special token gets a space in front."""
        text, pending = "", ""
        for is_special, group in groupby(ids, key=self._special.__contains__):
            if is_special:
                text += f" {pending}" if pending else ""
                text += "".join(self._special[id_] for id_ in group)
                pending = ""
            else:
                pending = self._pieces.DecodeIds(list(group))
        return text + pending

    def _segments(self, text: str) -> Iterator[tuple[str, bool]]:
        """Cut ``text`` at added and special tokens; yields (part, whether it is such a token)."""
        parts = self._whole.split(text)
        around = ["", *parts, ""]
        for index, (before, part, after) in enumerate(zip(around, parts, around[2:], strict=False)):
            if index % 2:
                yield part, True
                continue
            kept = part.rstrip() if after in self._added else part
            kept = kept.lstrip() if before in self._added else kept
            if kept:
                yield kept, False

    def _control_id(self, token: str) -> int:
        return self._added[token] if token in self._added else self._pieces.PieceToId(token)


def _special_tokens(folder: Path) -> dict[str, str]:
    """Contents of the special tokens by role: the map's, else the tokenizer's configuration's."""
    config = _read_json(folder / "tokenizer_config.json")
    special_map = _read_json(folder / "special_tokens_map.json")
    special = {}
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = special_map.get(role) or config.get(role)
        content = value["content"] if isinstance(value, dict) else value
        if not content:
            raise CheckpointError(f"{folder / 'special_tokens_map.json'}: no {role}")
        special[role] = content
    return special


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
