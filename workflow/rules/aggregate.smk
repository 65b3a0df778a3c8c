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
