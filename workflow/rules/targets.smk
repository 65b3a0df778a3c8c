rule prepare_targets:
    input:
        OWN["targets"],
    output:
        **outputs("prepare-targets"),
    log:
        "logs/prepare_targets.log",
    benchmark:
        "logs/benchmarks/prepare_targets.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        settings=settings("prepare-targets"),
        source=source("prepare-targets"),
    message:
        "Measured properties: reading and checking"
    shell:
        "hclmp prepare-targets > {log} 2>&1"
