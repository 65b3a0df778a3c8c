"""The run: which jobs there are, and the steps that they call."""
