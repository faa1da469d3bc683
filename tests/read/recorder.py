"""The numbers of a random checkpoint, computed and written down by the reference.

A folder that :func:`record` fills looks like a set of recorded cases, with other sizes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.read.random_checkpoint import write_json
from tests.read.reference import LEARNS, Pass, Points, Reference, Sizes, sasp
from workers.read.tokenizer import ReadTokenizer

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
PICTURES = {"wide": (120, 161), "tall": (150, 97), "snap": (94, 141)}
SEG_ANSWER, DENIAL = "it is [SEG].", "No, it is not in this image."
QUESTION = "What is {} in this image? Please output segmentation mask."


def record(folder: Path, sizes: Sizes) -> None:
    """Write pictures, the arrays of every case, and the manifest that lists them."""
    goldens = folder / "goldens"
    (goldens / "images").mkdir(parents=True)
    rng = np.random.default_rng(4)
    for name, shape in PICTURES.items():
        small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize(shape[::-1]).save(goldens / "images" / f"{name}.png")
    recorder = _Recorder(folder, Reference(folder, sizes))
    cases = [recorder.evaluation(name) for name in PICTURES]
    train = [recorder.training()]
    write_json(
        folder / "manifest.json",
        {
            "split": "other sizes",
            "cases": cases,
            "train": train,
            "val": [recorder.validation()],
            "files": {
                **{case["file"]: {"kind": "evaluate"} for case in cases},
                train[0]["file"]: {"kind": "train"},
                "val_v1.npz": {"kind": "val"},
            },
        },
    )


class _Recorder:
    def __init__(self, folder: Path, reference: Reference) -> None:
        self.folder, self.reference = folder, reference
        self.tokenizer = ReadTokenizer.from_folder(folder / "checkpoint")
        self.embeddings: dict[bytes, tuple[Tensor, tuple[int, int]]] = {}

    def evaluation(self, name: str) -> dict[str, Any]:
        """Answer a question about one picture."""
        reference, tokenizer = self.reference, self.tokenizer
        image = self._image(name)
        question = QUESTION.format("the road")
        prompt = _prompt(question)
        ids = tokenizer.encode_prompt(prompt)
        with torch.no_grad():
            features = reference.clip_features(image)
            tokens = reference.project(features)
            whole, steps = list(ids), []
            while not steps or (whole[-1] != tokenizer.eos_id and len(steps) < 8):
                passed = reference.run(whole, tokens)
                steps.append(reference.logits(passed.hidden[-1]))
                whole.append(int(steps[-1].argmax()))
            arrays = self._answer_arrays(ids, whole, steps, passed)
            arrays |= {
                "clip_features_s4": features[::4],
                "projected_image_tokens_s4": tokens[::4],
            }
            arrays |= self._mask_arrays(image, passed, whole[len(ids) :])
        file = f"eval_{name}.npz"
        self._save(file, arrays)
        answered = whole[len(ids) :]
        return {
            "case": name,
            "file": file,
            "image": f"images/{name}.png",
            "template": "llava_v1",
            "question": question,
            "prompt": prompt,
            "max_new_tokens": 8,
            "n_seg": answered.count(tokenizer.seg_id),
            "generated_text": tokenizer.decode(answered, skip_special=False),
            "generated_text_skip_special": tokenizer.decode(answered),
        }

    def training(self) -> dict[str, Any]:
        """Four rows on two pictures; one row, not the first, has no ``[SEG]``, one has two."""
        reference = self.reference
        learning = reference.learning
        rows = [
            ("wide", "the road", SEG_ANSWER),
            ("wide", "the sky", DENIAL),
            ("tall", "the tree", f"it is [SEG] and {SEG_ANSWER}"),
            ("tall", "the car", SEG_ANSWER),
        ]
        encoded = [self._row(question, answer) for _, question, answer in rows]
        prompts = [prompt for prompt, _, _ in encoded]
        arrays: dict[str, Any] = self._inputs([ids for _, ids, _ in encoded])
        arrays["labels"] = _padded([labels for _, _, labels in encoded], -100)
        arrays["offset"] = np.array([0, 2, 4])
        truths = {
            "wide": torch.rand(1, 15, 20).gt(0.6).float(),
            "tall": torch.rand(3, 15, 10).gt(0.6).float(),
        }
        truths = {
            name: functional.interpolate(truth[None], PICTURES[name])[0]
            for name, truth in truths.items()
        }
        losses, segments = self._losses(rows, encoded, truths)
        arrays |= losses
        for index, (name, segment) in enumerate(segments):
            arrays |= _segment_arrays(index, name, segment)
        for image, name in enumerate(("wide", "tall")):
            arrays |= _image_arrays(image, [s for n, s in segments if n == name], truths[name])
        gradients = _gradients(losses["loss_loss"], learning)
        constant, _ = self._losses(rows, encoded, truths, detached=True)
        key = "model.layers.0.self_attn.q_proj.weight"
        arrays[f"grad/{key}"] = gradients[key]
        arrays["grad/lm_head.weight_rownorm"] = gradients["lm_head.weight"].norm(dim=1)
        self._save("train_t1.npz", arrays)
        return {
            "case": "t1",
            "file": "train_t1.npz",
            "fixed_sizes": True,
            "images": ["wide", "tall"],
            "prompts": prompts,
            "rows": [
                [[QUESTION.format(asked), answer] for name, asked, answer in rows if name == image]
                for image in truths
            ],
            "sam_mask_shape_list": [
                [list(self._embedded(self._image(name))[1]), list(PICTURES[name])]
                for name in truths
            ],
            "losses": {
                key.removeprefix("loss_"): float(value.detach()) for key, value in losses.items()
            },
            "grad_norms": {key: float(value.norm()) for key, value in gradients.items()},
            "grad_norm_groups": _group_norms(gradients),
            "grad_norm_groups_mask_loss_only": _group_norms(
                _gradients(losses["loss_mask_loss"], learning)
            ),
            "grad_norm_groups_mask_loss_points_detached": _group_norms(
                _gradients(constant["loss_mask_loss"], learning)
            ),
        }

    def validation(self) -> dict[str, Any]:
        """Two answers given about one picture."""
        encoded = [self._row(question, SEG_ANSWER) for question in ("the road", "the sky")]
        arrays: dict[str, Any] = self._inputs([ids for _, ids, _ in encoded])
        image = self._image("snap")
        with torch.no_grad():
            tokens = self.reference.project(self.reference.clip_features(image))
            segments = [
                segment for _, ids, _ in encoded for segment in self._segments(image, ids, tokens)
            ]
        logits = torch.stack([segment["logits"] for segment in segments])
        arrays |= {
            "pred_mask_logits_s4": logits[:, ::4, ::4],
            "pred_mask_packed": np.packbits(logits.numpy() > 0),
            "pred_mask_shape": np.array(logits.shape),
            "pred_embeddings": torch.stack([segment["query"] for segment in segments]),
        }
        for index, segment in enumerate(segments):
            arrays[f"points_{index}"] = segment["points"].xy
            arrays[f"point_labels_{index}"] = segment["points"].labels
        self._save("val_v1.npz", arrays)
        prompts = [prompt for prompt, _, _ in encoded]
        return {"case": "v1", "file": "val_v1.npz", "image": "images/snap.png", "prompts": prompts}

    def _losses(
        self,
        rows: Sequence[tuple[str, str, str]],
        encoded: Sequence[Any],
        truths: dict[str, Tensor],
        detached: bool = False,
    ) -> tuple[dict[str, Tensor], list[tuple[str, dict[str, Any]]]]:
        segments: list[tuple[str, dict[str, Any]]] = []
        entropies = []
        for (name, _, _), (_, ids, labels) in zip(rows, encoded, strict=True):
            image = self._image(name)
            with torch.no_grad():
                tokens = self.reference.project(self.reference.clip_features(image))
            passed = self.reference.run(ids, tokens)
            found = self._segments(image, ids, tokens, passed, detached=detached)
            segments += [(name, one) for one in found]
            extra = len(passed.hidden) - len(ids)
            for position, label in enumerate(labels):
                if label != -100:
                    logits = self.reference.logits(passed.hidden[position + extra - 1])
                    entropies.append(logits.logsumexp(0) - logits[label])
        pairs = [
            (segment["logits"], truth)
            for name in truths
            for (_, segment), truth in zip(
                [pair for pair in segments if pair[0] == name], truths[name], strict=True
            )
        ]
        bce = torch.stack(
            [functional.binary_cross_entropy_with_logits(one, truth) for one, truth in pairs]
        ).mean()
        dice = torch.stack([_dice(one.sigmoid(), truth) for one, truth in pairs]).mean()
        ce = torch.stack(entropies).mean()
        losses = {
            "loss_ce_loss": ce,
            "loss_mask_bce_loss": 2 * bce,
            "loss_mask_dice_loss": 0.5 * dice,
            "loss_mask_loss": 2 * bce + 0.5 * dice,
            "loss_loss": ce + 2 * bce + 0.5 * dice,
        }
        return losses, segments

    def _segments(
        self,
        image: np.ndarray,
        ids: Sequence[int],
        tokens: Tensor,
        passed: Pass | None = None,
        *,
        detached: bool = False,
    ) -> Iterator[dict[str, Any]]:
        passed = passed or self.reference.run(ids, tokens)
        extra = len(passed.hidden) - len(ids)
        for position, token in enumerate(ids):
            if token == self.tokenizer.seg_id:
                state = passed.hidden[position + extra - 1]
                yield self._segment(image, passed, state, detached=detached)

    def _segment(
        self, image: np.ndarray, passed: Pass, state: Tensor, *, detached: bool = False
    ) -> dict[str, Any]:
        reference, hw = self.reference, image.shape[:2]
        count = reference.sizes.side**2
        similarity = passed.hidden[passed.start : passed.start + count] @ state
        points: Points = sasp(similarity, hw)
        embedding, resized = self._embedded(image)
        xy = points.xy.detach() if detached else points.xy
        view = xy * torch.tensor([resized[1] / hw[1], resized[0] / hw[0]])
        query = reference.query(state)
        sparse, low, iou = reference.decode(embedding, view, points.labels, query)
        return {
            "similarity": similarity,
            "points": points,
            "query": query,
            "view": view,
            "sparse": sparse,
            "low": low,
            "iou": iou,
            "embedding": embedding,
            "logits": reference.sam.postprocess_masks(low, resized, hw)[0, 0],
        }

    @torch.no_grad()
    def _embedded(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """SAM's embedding, once an image."""
        key = image.tobytes()
        if key not in self.embeddings:
            self.embeddings[key] = self.reference.sam_embedding(image)
        return self.embeddings[key]

    def _mask_arrays(
        self, image: np.ndarray, passed: Pass, answered: Sequence[int]
    ) -> dict[str, Any]:
        step = list(answered).index(self.tokenizer.seg_id)
        position = len(passed.hidden) - len(answered) + step
        found = self._segment(image, passed, passed.hidden[position])
        points, embedding, logits = found["points"], found["embedding"], found["logits"][None]
        channels = embedding.double().flatten(1)
        return {
            "seg_hidden_pos": np.array([position]),
            "hidden_seg": passed.hidden[position][None],
            "sam_emb_s8": embedding[:, ::8, ::8],
            "sam_emb_full_c0_3": embedding[:4],
            "sam_emb_chan_mean": channels.mean(1),
            "sam_emb_chan_std": channels.std(1),
            "object_presence": np.array([bool((logits > 0).any())]),
            "pred_embeddings": found["query"][None],
            "similarity": found["similarity"],
            "points": points.xy,
            "points_int": points.integer,
            "point_labels": points.labels,
            "sasp_counts_pos_neg_neutral": np.array(points.counts),
            "sasp_grid_h_w_padh_padw": np.array(points.grid),
            "points_1024": found["view"][None],
            "sparse_embeddings": found["sparse"][None],
            "low_res_logits": found["low"],
            "iou_pred": found["iou"],
            "mask_logits_s2": logits[:, ::2, ::2],
            "mask_logits_minmax": torch.stack([logits.min(), logits.max()]),
            "mask_packed": np.packbits(logits.numpy() > 0),
            "mask_shape": np.array(logits.shape),
        }

    def _answer_arrays(
        self, ids: Sequence[int], whole: Sequence[int], steps: Sequence[Tensor], passed: Pass
    ) -> dict[str, Any]:
        count = self.reference.sizes.side**2
        top = torch.stack(list(steps)).topk(2).values
        return {
            "input_ids": np.array([ids]),
            "output_ids": np.array([whole]),
            "first_step_logits": steps[0],
            "gen_margin": top[:, 0] - top[:, 1],
            "image_token_start": np.array(passed.start),
            "hidden_len": np.array(len(passed.hidden)),
            "hidden_image_tokens_s4": passed.hidden[passed.start : passed.start + count : 4],
            "hidden_last": passed.hidden[-1],
            "hidden_norm_all": passed.hidden.norm(dim=1),
        }

    def _row(self, question: str, answer: str) -> tuple[str, list[int], list[int]]:
        asked = _prompt(QUESTION.format(question))
        whole = f"{asked} {answer}</s>"
        ids = self.tokenizer.encode_prompt(whole)
        start = len(self.tokenizer.encode_prompt(asked))
        return whole, ids, [-100] * start + ids[start:]

    def _inputs(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        ids = _padded(rows, self.tokenizer.pad_id)
        return {"input_ids": ids, "attention_masks": ids != self.tokenizer.pad_id}

    def _image(self, name: str) -> np.ndarray:
        return np.array(Image.open(self.folder / "goldens" / "images" / f"{name}.png"))

    def _save(self, file: str, arrays: dict[str, Any]) -> None:
        plain = {
            key: value.detach().numpy() if torch.is_tensor(value) else value
            for key, value in arrays.items()
        }
        np.savez(self.folder / "goldens" / file, **plain)


def _gradients(loss: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return {
        key: torch.zeros_like(weight) if value is None else value
        for (key, weight), value in zip(weights.items(), found, strict=True)
    }


def _group_norms(gradients: dict[str, Tensor]) -> dict[str, float]:
    groups: dict[str, list[Tensor]] = {group: [] for group in LEARNS}
    for key, gradient in gradients.items():
        groups[next(group for group in LEARNS if group in key)].append(gradient.norm())
    return {group: float(torch.stack(norms).norm()) for group, norms in groups.items()}


def _segment_arrays(index: int, name: str, segment: dict[str, Any]) -> dict[str, Any]:
    return {
        f"points_{index}": segment["points"].xy,
        f"point_labels_{index}": segment["points"].labels,
        f"points_int_{index}": segment["points"].integer,
        f"similarity_{index}": segment["similarity"],
        f"shape_used_{index}": np.array(PICTURES[name]),
    }


def _image_arrays(image: int, segments: Sequence[dict[str, Any]], truth: Tensor) -> dict[str, Any]:
    logits = torch.stack([segment["logits"] for segment in segments])
    return {
        f"pred_embeddings_{image}": torch.stack([segment["query"] for segment in segments]),
        f"pred_mask_logits_s4_{image}": logits[:, ::4, ::4],
        f"pred_mask_shape_{image}": np.array(logits.shape),
        f"gt_mask_packed_{image}": np.packbits(truth.numpy() > 0),
        f"gt_mask_shape_{image}": np.array(truth.shape),
    }


def _dice(probability: Tensor, truth: Tensor) -> Tensor:
    overlap = (probability / 1000 * truth).sum()
    total = (probability / 1000).sum() + (truth / 1000).sum()
    return 1 - (2 * overlap + 1e-6) / (total + 1e-6)


def _prompt(question: str) -> str:
    return f"{SYSTEM} USER: <im_start><image><im_end>\n{question} ASSISTANT:"


def _padded(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    length = max(map(len, rows))
    return np.array([[*row, *[value] * (length - len(row))] for row in rows])
