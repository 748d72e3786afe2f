"""What is to be said before the figures of a network that nobody trained."""

from __future__ import annotations

from edgebone.cli.output import note


def say_if_random(bundle: str) -> None:
    """Say on stderr that a bundle's weights are random, where they are.

    Raises:
        BundleError: The bundle cannot be read.
    """
    from edgebone.core.bundle import open_bundle

    # Hashes are for the command behind this one, which reads the files.
    with open_bundle(bundle, read_next=lambda manifest: manifest.files) as opened:
        weights = opened.manifest.model.weights
    if weights.name == "random":
        note(
            f"edgebone: {bundle}: its weights are random: what such a network gets right, or gives alike with fewer "
            "bits, proves little about a trained one"
        )
