"""What a slice of training runs on, and how: the same settings everywhere, each machine in its own way."""

from dataclasses import dataclass
from pathlib import Path

import torch

from llmdiff.training.precision import product_dtype


@dataclass(frozen=True)
class Machine:
    """A device and what it is asked for.

    Attributes:
        device: where everything is, the training pictures' latents too.
        precision: of matrix products.
        compiled: True to compile the networks of the stages that are worth it.
        graphed: True to run a step as one CUDA graph: small networks are bound by launches.
    """

    device: torch.device
    precision: torch.dtype
    compiled: bool = False
    graphed: bool = False

    @classmethod
    def here(
        cls,
        device: str = "auto",
        precision: str = "auto",
        compiled: bool | None = None,
        graphed: bool | None = None,
    ) -> "Machine":
        """This machine: its GPU if it has one; what is None is on for a GPU and off for a CPU."""
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        place, fast = torch.device(name), name.startswith("cuda")
        if precision == "auto" and not fast and not _has_tiles():
            precision = "float32"
        return cls(
            place,
            product_dtype(precision, "no", place),
            fast if compiled is None else compiled,
            fast and graphed is not False,
        )

    def described(self) -> str:
        """The device in words."""
        kind = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "a CPU"
        return f"{kind}, matrix products in {str(self.precision).removeprefix('torch.')}"


def _has_tiles() -> bool:
    """True if the CPU multiplies tiles in bfloat16 (AMX): with vectors alone, small networks train slower in it."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "amx_bf16" in flags.read_text(encoding="utf-8", errors="replace")
