"""Galleries: recognise pictures by the most similar enrolled ones, without training."""

from edgebone.gallery.calibration import Calibration
from edgebone.gallery.changing import changing
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.gallery import Gallery
from edgebone.gallery.intake import Added, Duplicate

__all__ = ["Added", "Calibration", "Duplicate", "Gallery", "GalleryError", "changing"]
