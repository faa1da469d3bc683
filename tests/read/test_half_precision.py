"""Half precision against the recorded masks: same ids, masks that overlap by 99 %."""

from pathlib import Path

import numpy as np
import pytest
import torch

from workers.read.checkpoint import load_model
from workers.read.images import decode
from workers.read.inference import answer, encode_image, read_opening, segments
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer

CASES = ("p02_port", "p06_small", "p10_false_premise")


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def half_model(goldens: Path, request: pytest.FixtureRequest) -> ReadModel:
    return load_model(goldens / "checkpoint", clip=goldens / "clip", dtype=request.param)


@pytest.mark.parametrize("name", CASES)
def test_half_precision_says_the_same(
    goldens: Path, manifest: dict, half_model: ReadModel, name: str
) -> None:
    (case,) = (case for case in manifest["cases"] if case["case"] == name)
    recorded = np.load(goldens / "goldens" / case["file"])
    picture = decode((goldens / "goldens" / case["image"]).read_bytes(), 10**7)
    tokenizer = ReadTokenizer.from_folder(goldens / "checkpoint")
    ids = recorded["input_ids"][0].tolist()
    with torch.inference_mode():
        image = encode_image(half_model, picture)
        generated = answer(
            half_model,
            read_opening(half_model, ids, image),
            ids,
            seg_id=tokenizer.seg_id,
            eos_id=tokenizer.eos_id,
            max_new_tokens=case["max_new_tokens"],
        )
        found = [mask for _, mask in segments(half_model, image, generated, tokenizer.seg_id)]
    assert [*ids, *generated.ids] == recorded["output_ids"][0].tolist()
    assert len(found) == case["n_seg"]
    for mask in found:
        shape = tuple(recorded["mask_shape"])[1:]
        truth = np.unpackbits(recorded["mask_packed"], count=np.prod(shape)).reshape(shape) > 0
        ours = mask.logits.numpy() > 0
        assert (ours & truth).sum() / (ours | truth).sum() >= 0.99
