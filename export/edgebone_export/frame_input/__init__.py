"""A variant whose graph takes the camera's own frames, and does all preprocessing inside."""
