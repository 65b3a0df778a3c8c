"""Baselines that every report shows beside H-CLMP: forests, ridge regression and the mean."""
