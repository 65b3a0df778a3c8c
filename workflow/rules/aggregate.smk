rule aggregate:
    input:
        targets="data/processed/targets.parquet",
        features=expand(FEATURES, fold=FOLDS) if PER_FOLD else FEATURES,
        predictions=expand(
            "results/predictions/{variant}/{fold}.parquet",
            variant=SETTINGS.variants,
            fold=FOLDS,
        ),
        histories=expand(
            "results/models/{variant}/{fold}/history.csv", variant=NEURAL, fold=FOLDS
        ),
        gan=gan_results(),
    output:
        [in_report(file, "Tables", "tables") for file in METRICS[:1]],
        METRICS[1:],
        in_report("results/metrics/by_system.csv", "Tables", "tables"),
        plots(),
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
        settings=as_parameter(aggregate_slice(SETTINGS)),
        source=source_hash("aggregate"),
    message:
        "Metrics and plots over all folds"
    shell:
        "hclmp aggregate > {log} 2>&1"
