rule prepare_targets:
    input:
        OWN["targets"],
    output:
        table="data/processed/targets.parquet",
        record="data/processed/targets.json",
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
        settings=as_parameter(targets_slice(SETTINGS)),
        source=source_hash("prepare_targets"),
    message:
        "Measured properties: reading and checking"
    shell:
        "hclmp prepare-targets > {log} 2>&1"
