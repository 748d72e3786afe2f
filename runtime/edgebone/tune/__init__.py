"""``edgebone tune``: finds the fastest way to run a bundle on this machine, by measuring."""
