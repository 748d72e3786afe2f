"""How a network is executed: one protocol, one file an engine, and the choice among them."""
