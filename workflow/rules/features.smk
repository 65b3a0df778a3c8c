rule featurize:
    input:
        inputs("featurize"),
    output:
        **outputs("featurize", "{scope}"),
    log:
        "logs/featurize/{scope}featurize.log",
    benchmark:
        "logs/benchmarks/featurize/{scope}featurize.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        fold=fold_option,
        settings=settings("featurize"),
        source=source("featurize"),
    message:
        "Features of all samples"
    shell:
        "hclmp featurize {params.fold} > {log} 2>&1"
