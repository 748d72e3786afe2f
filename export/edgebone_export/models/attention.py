"""Rewrite attention of any rank so that it can be exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FlatAttention(TorchFunctionMode):
    """Reduces scaled dot product attention to four axes, the most that torch's ONNX exporter takes.

    Hiera, NesT and others attend within windows, which have an axis of their own beside the batch's. Attention treats
    both axes alike: they are merged into one, and split again.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a torch function; merge the leading axes of attention."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and args and args[0].ndim > 4:
            return _flat(*args, **kwargs)
        return func(*args, **kwargs)


def _flat(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any) -> Any:
    leading = query.shape[:-3]
    if attn_mask is not None and attn_mask.ndim > 3:
        attn_mask = attn_mask.expand(*leading, *attn_mask.shape[-3:]).flatten(0, -4)
    parts = [part.expand(*leading, *part.shape[-3:]).flatten(0, -4) for part in (query, key, value)]
    found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask, *rest, **named)
    return found.reshape(*leading, *found.shape[-3:])
