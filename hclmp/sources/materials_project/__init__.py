"""Densities of states from the Materials Project."""
