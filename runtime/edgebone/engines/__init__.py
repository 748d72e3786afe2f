"""How a network is executed: one protocol, a folder a family, and the choice among them."""
