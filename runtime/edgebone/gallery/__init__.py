"""Galleries: pictures are recognised by the ones that they are most like, and no network is trained for it."""

from edgebone.gallery.calibration import Calibration
from edgebone.gallery.changing import changing
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.gallery import Gallery
from edgebone.gallery.intake import Added, Duplicate

__all__ = ["Added", "Calibration", "Duplicate", "Gallery", "GalleryError", "changing"]
