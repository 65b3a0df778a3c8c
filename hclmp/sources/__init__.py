"""Where data comes from: one module per source, one function per table it gives."""
