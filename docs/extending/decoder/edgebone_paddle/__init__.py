"""PaddleDetection's rows as a decoder of edgebone."""
