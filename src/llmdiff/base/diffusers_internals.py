"""The inside of diffusers and torch, as far as llmdiff relies on it; nothing else in the package does.

Each function here rests on something that its host does not promise; tests/base/test_diffusers_internals.py has a test
for each that fails when the host changes.
"""

import ast
import functools
import inspect
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from diffusers import ModelMixin
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import get_parameter_dtype
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llmdiff.errors import LLMDiffError

ATTENTION_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "attention_mask")
"""The first parameters of every attention layer's ``forward``, in their order."""

_ONE_PARSER = threading.Lock()  # two threads in Python 3.11's ast.parse make a SystemError
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""The paths of an attention layer's linear maps."""
_FUSED = {"to_qkv": ("to_q", "to_k", "to_v"), "to_kv": ("to_k", "to_v")}
_SHARED_HOOK = -1  # torch counts from 0
_GROUP_OFFLOADING = "group_offloading"


def unwrap(module: nn.Module) -> nn.Module:
    """The diffusers model in a wrapper (``torch.compile``, accelerate, data parallelism, a user's own), or the module
    itself."""
    models = (part for part in module.modules() if isinstance(part, ModelMixin))
    return next(models, module)


def is_cross_attention(module: nn.Module) -> bool:
    """True if a module is a cross-attention layer of its own, and not one that attends text and image together."""
    separate = bool(getattr(module, "is_cross_attention", False)) and not getattr(module, "added_kv_proj_dim", None)
    return separate and is_attention(module)


def is_attention(module: Any) -> bool:
    """Whether a module is an attention layer of linear maps, of whichever kind."""
    parts = [getattr(module, name, None) for name in ("to_q", "to_k", "to_v")]
    complete = all(isinstance(part, nn.Module) for part in parts)
    return complete and isinstance(getattr(module, "to_out", None), nn.ModuleList)


def projections(attention: nn.Module) -> dict[tuple[str, ...], nn.Module]:
    """The linear maps that an attention layer may run, as they are now, by the names of what each of them makes.

    ``fuse_qkv_projections`` puts some beside those that they are made of, and the processor runs one or the other.
    """
    parts: Any = attention._modules  # asked for in every layer of every step
    maps = {(name,): parts[name] for name in ("to_q", "to_k", "to_v")} | {("to_out.0",): parts["to_out"][0]}
    return maps | {names: parts[fused] for fused, names in _FUSED.items() if fused in parts}


def base_layer(linear: Any) -> Any:
    """The layer under the wrapper that PEFT puts around it for a LoRA, or the layer itself."""
    return getattr(linear, "base_layer", linear)


def has_bias(linear: Any) -> bool:
    """Whether a linear layer adds a bias; of one that torch has quantised, ``bias`` is a method."""
    bias = base_layer(linear).bias
    return (bias if bias is None or isinstance(bias, Tensor) else bias()) is not None


def compute_dtype(denoiser: nn.Module) -> torch.dtype:
    """The dtype in which a diffusers model computes, also where it stores its weights in another one."""
    dtype: torch.dtype = get_parameter_dtype(denoiser)
    return dtype


def visible_weight(linear: Any) -> Tensor | None:
    """The weight of a linear map as numbers, if it is neither quantised nor offloaded."""
    weight = getattr(base_layer(linear), "weight", None)
    return weight if isinstance(weight, Tensor) and weight.is_floating_point() and not weight.is_meta else None


def normalises_query(block: nn.Module) -> bool:
    """True if a block normalises the image features before it hands them to its cross-attention.

    diffusers' common block does, save with PixArt's ``ada_norm_single``; Sana's own block does not. Any other block is
    taken not to: a second LayerNorm costs little, and queries of unbounded size cost the training.
    """
    return isinstance(block, BasicTransformerBlock) and block.norm_type != "ada_norm_single"


def is_offloaded(denoiser: nn.Module) -> bool:
    """True if hooks of sequential or group offloading fetch the weights of single layers, and so run before ours."""
    hooks = (getattr(module, "_hf_hook", None) for module in denoiser.modules())
    registries = (getattr(module, "_diffusers_hook", None) for module in denoiser.modules())
    layer_by_layer = any(getattr(hook, "offload", False) for hook in hooks)
    return layer_by_layer or any(registry and _GROUP_OFFLOADING in registry.hooks for registry in registries)


def blocks_of(pipe: Any) -> Any:
    """A modular pipeline's blocks themselves, of which its public ``blocks`` is a copy; None of any other pipeline."""
    return getattr(pipe, "__dict__", {}).get("_blocks")


def set_blocks(pipe: Any, blocks: Any) -> None:
    """Gives a modular pipeline other blocks, which it takes in public only when it is made."""
    pipe._blocks = blocks


def position_of(model: nn.Module, parameter: str) -> int | None:
    """The place of a parameter among the positional arguments of a model's ``forward``; None if it is not one.

    The class is asked, since libraries exchange ``forward`` on an instance for a wrapper that names no parameters.
    """
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    return names.index(parameter) if parameter in names else None


def first_parameter(model: nn.Module) -> str:
    """The name of the first parameter of a model's ``forward``: of its latents."""
    return list(inspect.signature(type(model).forward).parameters)[1]


def result_names(encode_prompt: Callable[..., Any]) -> tuple[str, ...]:
    """The names of what a pipeline's ``encode_prompt`` returns, in their order, read from its ``return`` statements.

    Pipelines return different things in different orders, and name them nowhere else.

    Raises:
        LLMDiffError: if the source is not at hand, or what is returned has no names.
    """
    with _ONE_PARSER:
        return _result_names(inspect.unwrap(getattr(encode_prompt, "__func__", encode_prompt)))


@functools.cache
def _result_names(function: Callable[..., Any]) -> tuple[str, ...]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise LLMDiffError("The source of the pipeline's encode_prompt is missing, which names its results.") from error
    returned = [_names(value) for value in _returned(tree.body[0])]
    names = returned[-1] if returned else ()
    if not names or None in names or not all(_agree(other, names) for other in returned):
        raise LLMDiffError(
            "The pipeline's encode_prompt does not return a plain tuple of named tensors, so an adapter cannot tell "
            "which of them are text features: use one of diffusers' own pipelines."
        )
    return cast(tuple[str, ...], names)


def _returned(function: ast.AST) -> Iterator[ast.expr]:
    """The values that a function returns, in their order, without those of functions in it."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value
        elif not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from _returned(node)


def _agree(names: tuple[str | None, ...], last: tuple[str | None, ...]) -> bool:
    """True if two ``return`` statements name the same, such as ``masked_prompt_embeds`` and ``prompt_embeds``."""
    pairs = zip(names, last, strict=False)
    return len(names) == len(last) and all(one and other and one.endswith(other) for one, other in pairs)


def _names(value: ast.expr) -> tuple[str | None, ...]:
    return tuple(map(_name, value.elts)) if isinstance(value, ast.Tuple) else (_name(value),)


def _name(value: ast.expr) -> str | None:
    """The variable behind ``x``, ``x.to(...)`` and ``x if ... else None``."""
    while not isinstance(value, ast.Name):
        if isinstance(value, ast.IfExp):
            value = value.body
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        else:
            return None
    return value.id


def is_in_backward() -> bool:
    """True in a backward pass, where gradient checkpointing runs layers again."""
    return bool(torch._C._current_graph_task_id() != -1)


def forget_compiled_graphs() -> None:
    """Makes everything that ``torch.compile`` has compiled be traced again.

    Dynamo does not guard on hooks: a denoiser that was compiled before its hooks changed would go on without them.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def register_shared_hook(module: nn.Module, hook: Callable[..., Any], always_call: bool = False) -> RemovableHandle:
    """``register_forward_hook``, for a hook that many blocks of one shape have; at most one of them on each module.

    Dynamo guards on the ids of forward hooks, of which torch gives each its own: blocks that could share one compiled
    graph (``compile_repeated_blocks``) would have one each, and soon hit the limit. So these all have the same.

    Returns:
        The handle that removes it.
    """
    handle = RemovableHandle(module._forward_hooks, extra_dict=module._forward_hooks_always_called)
    handle.id = _SHARED_HOOK
    module._forward_hooks[handle.id] = hook
    if always_call:
        module._forward_hooks_always_called[handle.id] = True
    return handle
