"""The steps of the pipeline: one module, one public function each, tables in, tables out."""
