"""From a training state to a checkpoint folder in the released layout."""

import shutil
from pathlib import Path

from workers.read.checkpoint import save_model
from workers.read.model import ReadModel

TOKENIZER_FILES = (
    "tokenizer.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)


def export(model: ReadModel, tokenizer: Path, folder: Path) -> None:
    """Write a model's bfloat16 weights, settings and tokenizer files to ``folder``.

    ``tokenizer`` is the folder that :func:`workers.tiny.vocabulary.train_tokenizer` wrote.
    """
    save_model(model, folder)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
