"""How good the predictions are: metrics, plots and the page of results."""
