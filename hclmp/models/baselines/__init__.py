"""Baselines that every report shows beside H-CLMP: boosting, forests, ridge and the median."""
