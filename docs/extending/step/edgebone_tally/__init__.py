"""What was seen in a while, as a step of edgebone."""
