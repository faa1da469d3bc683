"""SAM: image encoder, prompts (points and the ``[SEG]`` query) and masks.

``segment_anything`` provides the modules; this file chooses their sizes and is the only owner of
the step from prompts to mask logits. Prompts and masks are computed in float32 whatever the type
of the image encoder, so that point coordinates are never rounded.
"""

from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from torch import Tensor, nn
from torch.nn import functional

from workers.read.config import SamSizes

DECODER_HEADS = 8


class Sam(nn.Module):
    """SAM's three parts under the names that released checkpoints use."""

    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        self.view_side = sizes.image
        self.image_encoder = _image_encoder(sizes)
        self.prompt_encoder = PromptEncoder(
            embed_dim=sizes.prompt,
            image_embedding_size=(sizes.grid, sizes.grid),
            input_image_size=(sizes.image, sizes.image),
            mask_in_chans=sizes.mask_channels,
        )
        self.mask_decoder = MaskDecoder(
            num_multimask_outputs=sizes.mask_tokens - 1,
            transformer=TwoWayTransformer(
                depth=sizes.decoder_layers,
                embedding_dim=sizes.prompt,
                mlp_dim=sizes.decoder_mlp,
                num_heads=DECODER_HEADS,
            ),
            transformer_dim=sizes.prompt,
            iou_head_depth=sizes.iou_layers,
            iou_head_hidden_dim=sizes.iou_hidden,
        )

    def embed_prompts(self, points: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """Embed M prompts as (M, N + 2, P): N points, SAM's padding point, the query.

        ``points`` (M, N, 2) float32 are (x, y) pixels of the SAM view, ``labels`` (M, N) 1, 0 or
        -1, ``queries`` (M, P). Without points the query stands alone: (M, 1, P).
        """
        queries = queries.float()[:, None]
        if points.shape[1] == 0:
            return queries
        sparse, _ = self.prompt_encoder((points, labels), boxes=None, masks=None)
        return torch.cat([sparse, queries], dim=1)

    def decode(self, embeddings: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one mask a prompt: logits (M, 1, 4g, 4g) and predicted IoU (M, 1).

        ``embeddings`` (M, P, g, g) holds each prompt's own image, so that prompts of several
        images share one call: the decoder adds the dense prompt to the one image embedding it
        takes, so the images go in as dense prompts upon a zero image.
        """
        _, no_mask = self.prompt_encoder(points=None, boxes=None, masks=None)
        dense = embeddings.float() + no_mask
        low_res, iou = self.mask_decoder(
            image_embeddings=torch.zeros_like(dense[:1]),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return low_res, iou

    def upscale(
        self, low_res: Tensor, resized_hw: tuple[int, int], image_hw: tuple[int, int]
    ) -> Tensor:
        """Bring logits (M, 1, l, l) to the original image: (M, H, W), bilinear in float32.

        ``resized_hw`` is the part of the SAM view that the image fills.
        """
        side = self.view_side
        view = _bilinear(low_res.float(), (side, side))
        return _bilinear(view[..., : resized_hw[0], : resized_hw[1]], image_hw)[:, 0]


def _image_encoder(sizes: SamSizes) -> ImageEncoderViT:
    local = {window for window in sizes.windows if window}
    return ImageEncoderViT(
        img_size=sizes.image,
        patch_size=sizes.patch,
        embed_dim=sizes.embed,
        depth=len(sizes.windows),
        num_heads=sizes.heads,
        mlp_ratio=(sizes.mlp + 0.5) / sizes.embed,  # the encoder truncates embed * ratio
        out_chans=sizes.prompt,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=max(local, default=0),
        global_attn_indexes=tuple(i for i, window in enumerate(sizes.windows) if not window),
    )


def _bilinear(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)
