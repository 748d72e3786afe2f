"""Warns before figures of a network with random weights."""

from __future__ import annotations

from edgebone.cli.output import note


def say_if_random(bundle: str) -> None:
    """Warn on stderr if a bundle's weights are random.

    Raises:
        BundleError: The bundle cannot be read.
    """
    from edgebone.core.bundle import open_bundle

    # The command itself checks the hashes when it reads the files.
    with open_bundle(bundle, read_next=lambda manifest: manifest.files) as opened:
        weights = opened.manifest.model.weights
    if weights.name == "random":
        note(
            f"edgebone: {bundle}: its weights are random: accuracy, or agreement at lower precision, of such a network "
            "proves little about a trained one"
        )
