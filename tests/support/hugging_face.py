"""Small networks of transformers, made from configurations, saved as their publishers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

NAMES = {0: "cat", 1: "dog", 2: "bird"}
_LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
_TRANSFORMER: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
_STEM: dict[str, Any] = {"embedding_size": 8, "layer_type": "basic"}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _rt_detr() -> Any:
    backbone = hf.RTDetrResNetConfig(
        **_STEM, hidden_sizes=[8, 16, 16, 16], depths=[1] * 4, out_features=["stage2", "stage3", "stage4"]
    )
    return hf.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[16] * 3,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16] * 3,
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_queries=10,
        num_denoising=0,
        anchor_image_size=None,
        **_LABELS,
    )


def _depth_anything() -> Any:
    backbone = hf.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    return hf.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )


# By family: the class, its configuration, and its image processor.
FAMILIES: dict[str, Any] = {
    "resnet": lambda: (
        hf.ResNetForImageClassification(hf.ResNetConfig(**_STEM, **_STAGES, **_LABELS)),
        hf.ConvNextImageProcessor(size={"shortest_edge": 64}),
    ),
    "convnextv2": lambda: (
        hf.ConvNextV2ForImageClassification(hf.ConvNextV2Config(**_STAGES, image_size=64, **_LABELS)),
        hf.ConvNextImageProcessor(size={"shortest_edge": 64}),
    ),
    "vit": lambda: (
        hf.ViTForImageClassification(
            hf.ViTConfig(**_TRANSFORMER, intermediate_size=32, image_size=32, patch_size=8, **_LABELS)
        ),
        hf.ViTImageProcessor(size=_square(32)),
    ),
    "dinov2": lambda: (
        hf.Dinov2Model(hf.Dinov2Config(**_TRANSFORMER, image_size=70, patch_size=14)),
        hf.BitImageProcessor(size={"shortest_edge": 64}, crop_size=_square(56)),
    ),
    "dinov3_vit": lambda: (
        hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**_TRANSFORMER, intermediate_size=32, image_size=64, patch_size=16)),
        hf.DINOv3ViTImageProcessor(size=_square(64)),
    ),
    "swin": lambda: (
        hf.SwinForImageClassification(
            hf.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, **_LABELS)
        ),
        hf.ViTImageProcessor(size=_square(32), resample=3),
    ),
    "hiera": lambda: (
        hf.HieraForImageClassification(
            hf.HieraConfig(embed_dim=8, image_size=[64, 64], depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], **_LABELS)
        ),
        hf.BitImageProcessor(size={"shortest_edge": 72}, crop_size=_square(64)),
    ),
    "mobilevit": lambda: (
        hf.MobileViTForImageClassification(
            hf.MobileViTConfig(
                image_size=64,
                hidden_sizes=[16] * 3,
                neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 32],
                num_attention_heads=2,
                **_LABELS,
            )
        ),
        hf.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=_square(64)),
    ),
    "segformer": lambda: (
        hf.SegformerForSemanticSegmentation(
            hf.SegformerConfig(**_STAGES, num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16, **_LABELS)
        ),
        hf.SegformerImageProcessor(size=_square(64)),
    ),
    "depth_anything": lambda: (
        hf.DepthAnythingForDepthEstimation(_depth_anything()),
        hf.DPTImageProcessor(size=_square(70), keep_aspect_ratio=True, ensure_multiple_of=14),
    ),
    "yolos": lambda: (
        hf.YolosForObjectDetection(
            hf.YolosConfig(
                **_TRANSFORMER,
                intermediate_size=32,
                image_size=[64, 80],
                patch_size=16,
                num_detection_tokens=10,
                **_LABELS,
            )
        ),
        hf.YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 106}),
    ),
    "rt_detr": lambda: (hf.RTDetrForObjectDetection(_rt_detr()), hf.RTDetrImageProcessor(size=_square(64))),
}


def save_family(family: str, folder: Path) -> Path:
    """Save a network of a family, with its processor; its weights are random, but such that its outputs vary."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            layer.reset_parameters()
        if isinstance(layer, torch.nn.LayerNorm):  # equal norms of one value are merged
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name == "head.conv3.bias":  # Depth Anything's depths, before a ReLU
            torch.nn.init.ones_(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
