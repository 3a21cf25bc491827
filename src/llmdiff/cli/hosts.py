"""The import of diffusers and transformers by the command line, without what they import and hardly anything needs.

Of the six seconds that importing them takes, two thirds are for other tasks: compilers, LoRA training, sharded tensors,
every transformer that diffusers knows. What is put off here is imported as soon as it is used.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, TypeVar

from llmdiff.cli.class_index import keep_index
from llmdiff.cli.deferred_imports import Deferred, after_import, late_packages, placeholders
from llmdiff.cli.host_shortcuts import distributions_read_late, take_shortcuts

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.controlnets",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "transformers.models",
)
"""Packages whose ``__init__`` imports all that is in them, or reads it."""

_NAMES: dict[str, tuple[str, ...]] = {
    "peft": (),
    "peft.helpers": ("disable_input_dtype_casting",),
    "peft.tuners": (),
    "peft.tuners.tuners_utils": ("BaseTunerLayer",),
    "scipy": ("integrate",),
    "scipy.optimize": ("linear_sum_assignment",),
    "scipy.stats": (),
    "transformers.distributed.expert_parallel": ("apply_expert_parallelism",),
    "transformers.distributed.tensor_parallel": (
        "apply_tensor_parallelism",
        "gather_state_dict_for_save",
        "get_kv_heads_per_rank",
        "verify_tp_plan",
    ),
    "torch._dynamo._trace_wrapped_higher_order_op": ("TransformGetItemToIndex",),
    "torch.distributed._composable.fsdp": ("fully_shard",),
    "torch.distributed._functional_collectives": ("all_to_all_single_autograd", "wait_tensor"),
    "torch.distributed.checkpoint": (),
    "torch.distributed.checkpoint.hf_storage": ("HuggingFaceStorageReader", "HuggingFaceStorageWriter"),
    "torch.distributed.fsdp": ("CPUOffloadPolicy", "FullyShardedDataParallel", "MixedPrecisionPolicy"),
    "torch.distributed.tensor": ("DTensor", "Partial", "Replicate", "Shard", "distribute_tensor"),
    "torch.distributed.tensor._utils": ("compute_local_shape_and_global_offset",),
    "torch.distributed.tensor.placement_types": ("Shard", "_StridedShard"),
}
"""Names that modules of the hosts import, and use in functions alone."""

_SCHEDULERS = (
    "deis_multistep",
    "dpmsolver_multistep",
    "dpmsolver_singlestep",
    "euler_discrete",
    "flow_match_euler_discrete",
    "heun_discrete",
    "k_dpm_2_ancestral_discrete",
    "k_dpm_2_discrete",
    "lms_discrete",
    "unipc_multistep",
)
"""Those that diffusers imports with each of the others, to say which could take its place."""

_BINDERS = (
    "diffusers.guiders",
    "diffusers.loaders.lora_base",
    "diffusers.pipelines.pipeline_utils",
    *(f"diffusers.schedulers.scheduling_{name}" for name in _SCHEDULERS),
    "transformers.generation.utils",
    "transformers.masking_utils",
)
"""Modules of the hosts that import those names, themselves or by what they import."""

_STYLES = ("transformers.distributed.tensor_parallel", "transformers.distributed.expert_parallel")
"""Modules that enter the ways in which they divide a model into a registry, as they are imported."""
_REGISTRY = ("transformers.distributed.mixin", "ALL_PARALLEL_STYLES")
"""Where that registry is looked at."""
_INDEX = "transformers.utils.import_utils"
_DYNAMO = "torch._dynamo"


@cache
def import_hosts() -> None:
    """Imports diffusers and transformers; the second time it does nothing.

    What is imported stays until the process ends, so the garbage collector is not to look at it again and again, which
    would take a sixth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        take_shortcuts()
        with _light_hosts():
            for name in _BINDERS:
                with suppress(ImportError):  # of a version of the host without it; what is needed fails again later
                    import_module(name)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def _light_hosts() -> Iterator[None]:
    late_packages(_PACKAGES)
    after_import(_INDEX, keep_index)
    allowed: list[Any] = []
    given: dict[str, Mapping[str, Any]] = {name: _deferred(name, names) for name, names in _NAMES.items()}
    given[_DYNAMO] = _decorators(allowed)
    installed = {name: names for name, names in given.items() if PathFinder.find_spec(name.partition(".")[0])}
    with placeholders(installed), distributions_read_late():
        yield
    after_import(_DYNAMO, partial(_allow, allowed))
    _fill_registry_late()


def _fill_registry_late() -> None:
    tensors, experts = _STYLES
    holder, name = _REGISTRY
    if tensors not in sys.modules and hasattr(sys.modules.get(holder), name):
        after_import(tensors, lambda _: import_module(experts))
        setattr(sys.modules[holder], name, Deferred(tensors, name))


def _deferred(module: str, names: Sequence[str]) -> dict[str, Deferred]:
    return {name: Deferred(module, name) for name in names}


def _decorators(allowed: list[Any]) -> dict[str, Any]:
    """Decorators of torch._dynamo, which imports sympy and more, for functions that may never be compiled."""
    from torch._compile import _disable_dynamo

    def allow_in_graph(function: Function) -> Function:
        allowed.append(function)
        return function

    def assume_constant_result(function: Function) -> Function:
        vars(function)["_dynamo_marked_constant"] = True
        return function

    def disable(function: Any = None, recursive: bool = True, **_: Any) -> Any:
        return _disable_dynamo(function, recursive)

    return {one.__name__: one for one in (allow_in_graph, assume_constant_result, disable)}


def _allow(functions: Sequence[Any], dynamo: ModuleType) -> None:
    for function in functions:
        dynamo.allow_in_graph(function)
