"""Tap embeddings and feature maps of networks that do not return them.

The layers to tap are found by running the network once and watching its layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from edgebone_export.errors import ExportError

Reading = Callable[[torch.Tensor], torch.Tensor]


class Tapped(nn.Module):
    """Runs a network and returns the inputs or outputs of some of its layers.

    Args:
        module: The network.
        layers: Names of the layers to watch.
        takes: Return the layers' inputs instead of their outputs.
        reading: Function applied to each tensor before it is returned.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str], takes: bool, reading: Reading) -> None:
        super().__init__()
        self.module = module
        self._layers = tuple(layers)
        self._takes = takes
        self._reading = reading

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one tensor per layer for float32 (n, 3, h, w)."""
        # Stored outside the module: torch.export rejects tensors that a forward leaves in attributes.
        seen: dict[str, torch.Tensor] = {}

        def watch(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, taken: Any, given: Any) -> None:
                seen[name] = taken[0] if self._takes else given

            return hook

        hooks = [self.module.get_submodule(name).register_forward_hook(watch(name)) for name in self._layers]
        try:
            self.module(images)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(self._reading(seen[name]) for name in self._layers)


def embedding(module: nn.Module, example: torch.Tensor, name: str) -> nn.Module:
    """Return a module that computes the last linear layer's input, one vector per picture.

    Raises:
        ExportError: The network has no linear layer.
    """
    linear = [layer for layer, made, _, _ in _watch(module, example) if isinstance(made, nn.Linear)]
    if not linear:
        raise ExportError(f"{name} does not end in a linear layer, whose input would be the embedding")
    return Tapped(module, linear[-1:], takes=True, reading=lambda tensor: tensor.flatten(1))


def feature_maps(module: nn.Module, example: torch.Tensor, name: str) -> nn.Module:
    """Return a module that computes the last map of each stride, finest first, as (n, channels, height, width).

    Raises:
        ExportError: The network has no feature maps.
    """
    if isinstance(module, VisionTransformer):
        rows = module.image_size // module.patch_size

        def to_map(tokens: torch.Tensor) -> torch.Tensor:
            patches = tokens[:, 1:]
            return patches.transpose(1, 2).reshape(tokens.shape[0], -1, rows, rows)

        return Tapped(module, ["encoder"], takes=False, reading=to_map)
    channels_last = isinstance(module, SwinTransformer)
    watched = _before_classes(_watch(module, example, channels_last))
    shrinks = {layer: size_in[0] / size_out[0] for layer, _, size_in, size_out in watched if size_in and size_out}
    # A later layer of the same stride replaces an earlier one: without padding, each is a little smaller.
    last = {
        stride_of(int(example.shape[2]), size[0]): layer
        for layer, _, _, size in watched
        if size and _is_scaled(size, example) and _is_stage(module, layer, shrinks)
    }
    if not last:
        raise ExportError(f"no feature maps found in {name}")
    finest_first = [last[stride] for stride in sorted(last)]
    reading: Reading = (lambda tensor: tensor.permute(0, 3, 1, 2)) if channels_last else (lambda tensor: tensor)
    return Tapped(module, finest_first, takes=False, reading=reading)


def stride_of(pixels: int, cells: int, known: Collection[int] = ()) -> int:
    """Return the pixels of the network's input per cell of a map, along one side.

    Layers round a side up or down, and without padding lose cells at its ends: networks that halve step by step have
    a power of two as stride, whatever the ratio of the sides. Patches of 14 pixels are recognised because they divide
    the side evenly.

    Args:
        pixels: The side of the network's input.
        cells: The side of the map.
        known: Strides that the network is known to have, if any.
    """
    exponent = math.log2(pixels / cells)
    among = known or {2 ** max(0, math.floor(exponent)), 2 ** max(0, math.ceil(exponent))}
    nearest = sorted(among, key=lambda stride: abs(math.log2(stride) - exponent))
    for stride in nearest:
        if cells in (pixels // stride, -(-pixels // stride)):
            return stride
    return nearest[0] if known or pixels % cells else pixels // cells


Size = tuple[int, int] | None


def _watch(
    module: nn.Module, example: torch.Tensor, channels_last: bool = False
) -> list[tuple[str, nn.Module, Size, Size]]:
    """Run once; return every layer in order of completion, with the sizes of its input and output maps."""
    finished: list[tuple[str, nn.Module, Size, Size]] = []

    def size_of(value: Any, nhwc: bool) -> Size:
        if not isinstance(value, torch.Tensor) or value.ndim != 4:
            return None
        height, width = value.shape[1:3] if nhwc else value.shape[2:4]
        return int(height), int(width)

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, taken: Any, given: Any) -> None:
            first = taken[0] if taken else None
            # The first layer takes the picture itself, which has channels first in every network.
            nhwc_in = channels_last and not (isinstance(first, torch.Tensor) and first.shape[1] == 3)
            finished.append((name, layer, size_of(first, nhwc_in), size_of(given, channels_last)))

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in module.named_modules() if name]
    try:
        with torch.inference_mode():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return finished


def _before_classes(watched: list[tuple[str, nn.Module, Size, Size]]) -> list[tuple[str, nn.Module, Size, Size]]:
    """Drop a convolution that computes the classes, such as SqueezeNet's, and the layers after it."""
    last = next((place for place in reversed(range(len(watched))) if hasattr(watched[place][1], "weight")), 0)
    pooled = watched and watched[-1][3] in (None, (1, 1))
    return watched[:last] if pooled and isinstance(watched[last][1], nn.Conv2d) else watched


def _is_scaled(size: tuple[int, int], example: torch.Tensor) -> bool:
    """Return whether a map is at most half the picture's size, with the same aspect."""
    down_h, down_w = example.shape[2] / size[0], example.shape[3] / size[1]
    return size != (1, 1) and min(down_h, down_w) >= 1.9 and abs(down_h - down_w) < 0.15 * down_h


def _is_stage(module: nn.Module, layer: str, shrinks: dict[str, float]) -> bool:
    """Return whether a layer is in a plain chain of stages, not inside a block.

    A chain is the network itself, a list of its stages, or a Sequential that shrinks the maps by more than a half.
    One that shrinks them by less is a stage, and layers inside a stage are not tapped.
    """
    parents = layer.split(".")[:-1]
    chains = [".".join(parents[:depth]) for depth in range(1, len(parents) + 1)]

    def is_chain(name: str) -> bool:
        made = module.get_submodule(name)
        return isinstance(made, nn.ModuleList) or (isinstance(made, nn.Sequential) and shrinks.get(name, 0) > 2)

    return all(map(is_chain, chains))
