"""The generator of densities of states."""
