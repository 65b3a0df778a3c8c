"""The models: what is fitted to a fold, and the generator of density of states."""
