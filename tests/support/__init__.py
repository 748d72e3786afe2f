"""What several test files share: bundles, networks, pictures, servers, doubles, and the program itself."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
