"""torchvision's detectors in a form that every engine runs: static shapes, no NonMaxSuppression, no RoiAlign."""
