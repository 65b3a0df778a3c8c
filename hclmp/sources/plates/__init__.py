"""Optical transmission of printed plates (CaltechDATA g1tyb-nje27)."""
