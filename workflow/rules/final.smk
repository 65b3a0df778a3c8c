rule finalize:
    input:
        inputs("finalize"),
    output:
        **outputs("finalize"),
    log:
        "logs/finalize.log",
    benchmark:
        "logs/benchmarks/finalize.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **GPU,
        mem_mb=by_attempt(4000),
        runtime=by_attempt(240),
    params:
        settings=settings("finalize"),
        source=source("finalize"),
    message:
        "The model for use: training on all samples"
    shell:
        "hclmp finalize --threads {threads} > {log} 2>&1"
