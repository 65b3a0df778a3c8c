"""H-CLMP(T): the network, its training, and the fitted ensemble."""
