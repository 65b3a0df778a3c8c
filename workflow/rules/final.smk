if PER_FOLD:

    # No fold's generator has seen all DOS; the final model's has.
    use rule pretrain_gan as pretrain_final_gan with:
        output:
            generator="results/gan/generator.safetensors",
            metrics="results/gan/metrics.json",
            history="results/gan/history.csv",
            examples="results/gan/examples.csv",
        log:
            "logs/pretrain_gan/all.log",
        benchmark:
            "logs/benchmarks/pretrain_gan/all.tsv"
        params:
            fold="",
            settings=as_parameter(gan_slice(SETTINGS)),
            source=source_hash("pretrain_gan"),
        message:
            "Generator of density of states for the final model: training"


if PER_FOLD and FINAL_ENCODER:

    use rule pretrain_encoder as pretrain_final_encoder with:
        output:
            weights="results/encoder/encoder.safetensors",
            history="results/encoder/history.csv",
        log:
            "logs/pretrain_encoder/all.log",
        benchmark:
            "logs/benchmarks/pretrain_encoder/all.tsv"
        params:
            fold="",
            settings=as_parameter(encoder_slice(SETTINGS)),
            source=source_hash("pretrain_encoder"),
        message:
            "Encoder for the final model: training on density of states"


rule finalize:
    input:
        targets="data/processed/targets.parquet",
        features=expand(FEATURES, fold=FOLDS) if PER_FOLD else FEATURES,
        generator=[FINAL_GENERATOR] if FINAL_TRANSFERS else [],
        encoder="results/encoder/encoder.safetensors" if FINAL_ENCODER else [],
        encoders=encoders(FINAL, FOLDS) if FINAL else [],
        models=expand(
            "results/models/{variant}/{fold}/{name}",
            variant=FINAL,
            fold=FOLDS,
            name=["model.safetensors", "history.csv"],
        ),
        metrics="results/metrics/metrics.json",
    output:
        final_files(),
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
        settings=as_parameter(final_slice(SETTINGS)),
        source=source_hash("finalize"),
    message:
        "The model for use: training on all samples"
    shell:
        "hclmp finalize --threads {threads} > {log} 2>&1"
