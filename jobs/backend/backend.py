"""What arithmetic runs on, and all that follows from it: one object, chosen once in a process.

On a CPU the weights become float32, a BLAS multiplies them, batches are computed on as many streams
as there are cores, and what MLX does slowly there is done by functions of ours. On a GPU, Apple's
or NVIDIA's, the weights stay as they are stored, there is one stream, and MLX's own kernels do it
all. ``FARENSE_BACKEND=as-accelerator`` takes a GPU's way on a CPU: slowly, but the code is the
same.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import ClassVar

from jobs.backend import convolution, cpu_ops
from jobs.backend.blas import blas_name
from jobs.backend.choice import AS_ACCELERATOR, CPU, CUDA, METAL, VARIABLE, wanted_backend
from jobs.backend.dequantize import dequantize_model
from jobs.backend.mlx import mx, nn
from jobs.backend.streams import Lanes, cpu_lanes, one_lane
from jobs.errors import ConfigError


class Backend(ABC):
    """How this process computes.

    Attributes:
        name: ``cpu``, ``metal``, ``cuda`` or ``as-accelerator``.
        form: how frozen weights are held, for the log and the keys of caches.
        own_layers: LoRA layers of ours stand where MLX's own would be slow.
        noise_on_host: NumPy draws the random numbers of dropout.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    own_layers: ClassVar[bool]
    noise_on_host: ClassVar[bool]

    @abstractmethod
    def describe(self) -> str:
        """Return what this process computes with, for people."""

    @abstractmethod
    def hold(self, module: nn.Module) -> None:
        """Bring the weights of a model, none of which is read yet, into ``form``."""

    @abstractmethod
    def lanes(self, useful: int) -> Lanes:
        """Return where micro-batches are computed, at most ``useful`` at the same time."""

    @abstractmethod
    def cross_entropy(self, logits: mx.array, targets: mx.array) -> mx.array:
        """Return -log softmax(logits)[target], nats, for float32 logits [P, V]: shape [P]."""

    def awaited(self, arrays: list[mx.array]) -> list[mx.array]:
        """Return what to depend on so that nothing takes memory before ``arrays`` are computed."""
        return arrays

    def memory(self) -> tuple[int, ...]:
        """Return the limits that the device sets to this process's memory, bytes."""
        return ()

    @property
    def is_cpu(self) -> bool:
        """Whether the weights are held for a CPU."""
        return self.name == CPU


class CpuBackend(Backend):
    """float32, a fast BLAS, several streams.

    MLX's quantized kernels reach 2 to 8 GFLOP/s on a CPU, float32 with a fast BLAS 140 to 200.
    """

    name, form = CPU, "float32"
    own_layers = noise_on_host = True

    def describe(self) -> str:
        """Return the BLAS that multiplies."""
        return f"CPU, {blas_name() or 'reference BLAS (slow)'}"

    def hold(self, module: nn.Module) -> None:
        """Make all weights float32, and put our functions in the place of slow ones."""
        dequantize_model(module, mx.float32)
        module.set_dtype(mx.float32)
        cpu_ops.FAST.put_in(module)
        convolution.put_in(module)

    def lanes(self, useful: int) -> Lanes:
        """Return a stream for each core, each with a BLAS of one thread."""
        return cpu_lanes(useful)

    def cross_entropy(self, logits: mx.array, targets: mx.array) -> mx.array:
        """Return it by the exponential of ours."""
        return cpu_ops.cross_entropy(logits, targets)

    def awaited(self, arrays: list[mx.array]) -> list[mx.array]:
        """Return the end of a wait for them: MLX starts work on a CPU far ahead of it."""
        return cpu_ops.awaited(arrays)


class AcceleratorBackend(Backend):
    """The way of a GPU, taken on whatever MLX computes with."""

    name, form = AS_ACCELERATOR, "as stored"
    own_layers = noise_on_host = False

    def describe(self) -> str:
        """Return that a CPU stands for a GPU."""
        return f"CPU, {blas_name() or 'reference BLAS (slow)'}, as an accelerator (a test's way)"

    def hold(self, module: nn.Module) -> None:
        """Leave the weights as they are."""

    def lanes(self, useful: int) -> Lanes:
        """Return one stream: a GPU is busy with one batch."""
        return one_lane()

    def cross_entropy(self, logits: mx.array, targets: mx.array) -> mx.array:
        """Return MLX's own."""
        return nn.losses.cross_entropy(logits, targets, reduction="none")


class MetalBackend(AcceleratorBackend):
    """Apple's GPU."""

    name = METAL

    def describe(self) -> str:
        """Return the chip."""
        return f"Metal, {mx.device_info().get('device_name', 'Apple GPU')}"

    def hold(self, module: nn.Module) -> None:
        """Let MLX keep as much memory wired as the system recommends."""
        mx.set_wired_limit(self.memory()[1])

    def memory(self) -> tuple[int, ...]:
        """Return what the machine has, and how much of it the GPU may work with."""
        info = mx.device_info()
        return int(info["memory_size"]), int(info["max_recommended_working_set_size"])


class CudaBackend(AcceleratorBackend):
    """A GPU of NVIDIA's."""

    name = CUDA

    def describe(self) -> str:
        """Return the card."""
        return f"CUDA, {mx.device_info().get('device_name', 'NVIDIA GPU')}"

    def memory(self) -> tuple[int, ...]:
        """Return the card's memory, and how much of it MLX keeps to."""
        return int(mx.device_info()["total_memory"]), mx.get_memory_limit()


BACKENDS: dict[str, type[Backend]] = {
    CPU: CpuBackend,
    METAL: MetalBackend,
    CUDA: CudaBackend,
    AS_ACCELERATOR: AcceleratorBackend,
}


@functools.cache
def backend() -> Backend:
    """Return how this process computes.

    Raises:
        ConfigError: ``FARENSE_BACKEND`` names none, or one that this machine does not have.
    """
    wanted, there = wanted_backend(), _there()
    if wanted in (METAL, CUDA) and wanted != there:
        raise ConfigError(
            f"{VARIABLE}={wanted}: MLX finds none here.",
            f"Leave it out to compute with what is here: {there}.",
        )
    return BACKENDS[wanted or there]()


def _there() -> str:
    """Return what the machine has. MLX's CUDA build says yes without a card, too: count them."""
    if mx.metal.is_available():
        return METAL
    if mx.cuda.is_available() and mx.device_count(mx.DeviceType.gpu):
        return CUDA
    return CPU
