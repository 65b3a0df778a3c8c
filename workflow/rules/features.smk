rule featurize:
    input:
        targets="data/processed/targets.parquet",
        generator=[GENERATOR] if SETTINGS.transfers else [],
    output:
        FEATURES,
    log:
        f"logs/featurize/{SCOPE}featurize.log",
    benchmark:
        f"logs/benchmarks/featurize/{SCOPE}featurize.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        fold=fold_option,
        settings=as_parameter(features_slice(SETTINGS)),
        source=source_hash("featurize"),
    message:
        "Features of all samples"
    shell:
        "hclmp featurize {params.fold} > {log} 2>&1"
