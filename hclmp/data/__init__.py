"""What the models are made from: formulas, compositions, elements, tables, folds."""
