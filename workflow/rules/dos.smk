rule pull_dos:
    input:
        OWN["dos"],
    output:
        table="data/processed/dos.parquet",
        record="data/processed/dos.json",
    log:
        "logs/pull_dos.log",
    benchmark:
        "logs/benchmarks/pull_dos.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(60),
    params:
        settings=as_parameter(dos_slice(SETTINGS)),
        source=source_hash("pull_dos"),
    message:
        "Density of states: reading and checking"
    shell:
        "hclmp pull-dos > {log} 2>&1"


if SETTINGS.pretrains:

    rule pretrain_gan:
        input:
            "data/processed/dos.parquet",
        output:
            generator=GENERATOR,
            metrics=f"results/gan/{SCOPE}metrics.json",
            history=f"results/gan/{SCOPE}history.csv",
            examples=f"results/gan/{SCOPE}examples.csv",
        log:
            f"logs/pretrain_gan/{SCOPE}pretrain_gan.log",
        benchmark:
            f"logs/benchmarks/pretrain_gan/{SCOPE}pretrain_gan.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=by_attempt(4000),
            runtime=by_attempt(120),
        params:
            fold=fold_option,
            settings=lambda wildcards: as_parameter(
                gan_slice(SETTINGS, fold_of(wildcards))
            ),
            source=source_hash("pretrain_gan"),
        message:
            "Generator of density of states: training"
        shell:
            "hclmp pretrain-gan {params.fold} --threads {threads} > {log} 2>&1"


if SETTINGS.pretrains_encoder:

    rule pretrain_encoder:
        input:
            "data/processed/dos.parquet",
        output:
            weights=ENCODER,
            history=f"results/encoder/{SCOPE}history.csv",
        log:
            f"logs/pretrain_encoder/{SCOPE}pretrain_encoder.log",
        benchmark:
            f"logs/benchmarks/pretrain_encoder/{SCOPE}pretrain_encoder.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            **GPU,
            mem_mb=by_attempt(4000),
            runtime=by_attempt(240),
        params:
            fold=fold_option,
            settings=lambda wildcards: as_parameter(
                encoder_slice(SETTINGS, fold_of(wildcards))
            ),
            source=source_hash("pretrain_encoder"),
        message:
            "Encoder of H-CLMP(T): training on density of states"
        shell:
            "hclmp pretrain-encoder {params.fold} --threads {threads} > {log} 2>&1"
