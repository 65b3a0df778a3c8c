# What `snakemake --report` shows: category and caption by the beginning of an output's name.
SHOWN = {
    "summary": ("Tables", "tables"),
    "by_system": ("Tables", "tables"),
    "parity_": ("Errors", "parity"),
    "mae_by": ("Errors", "errors"),
    "loss_curves": ("Training", "losses"),
    "correlation": ("Correlation", "correlation"),
    "generated_dos": ("Density of states", "dos"),
    "gan_curves": ("Density of states", "dos"),
}


def shown(name, path):
    """An output of aggregate, in the report if it belongs there."""
    for start, place in SHOWN.items():
        if name.startswith(start):
            return in_report(path, *place)
    return path


rule aggregate:
    input:
        inputs("aggregate"),
    output:
        [shown(name, path) for name, path in outputs("aggregate").items()],
    log:
        "logs/aggregate.log",
    benchmark:
        "logs/benchmarks/aggregate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        settings=settings("aggregate"),
        source=source("aggregate"),
    message:
        "Metrics and plots over all folds"
    shell:
        "hclmp aggregate > {log} 2>&1"
