"""``edgebone tune``: finds the best way to run a bundle on this machine, by measuring."""
