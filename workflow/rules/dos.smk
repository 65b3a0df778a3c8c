rule pull_dos:
    input:
        OWN["dos"],
    output:
        **outputs("pull-dos"),
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
        settings=settings("pull-dos"),
        source=source("pull-dos"),
    message:
        "Density of states: reading and checking"
    shell:
        "hclmp pull-dos > {log} 2>&1"


if SETTINGS.pretrains:

    rule pretrain_gan:
        input:
            inputs("pretrain-gan"),
        output:
            **outputs("pretrain-gan", "{scope}"),
        log:
            "logs/pretrain_gan/{scope}pretrain_gan.log",
        benchmark:
            "logs/benchmarks/pretrain_gan/{scope}pretrain_gan.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=by_attempt(4000),
            runtime=by_attempt(120),
        params:
            fold=fold_option,
            settings=settings("pretrain-gan"),
            source=source("pretrain-gan"),
        message:
            "Generator of density of states: training"
        shell:
            "hclmp pretrain-gan {params.fold} --threads {threads} > {log} 2>&1"


if SETTINGS.pretrains_encoder:

    rule pretrain_encoder:
        input:
            inputs("pretrain-encoder"),
        output:
            **outputs("pretrain-encoder", "{scope}"),
        log:
            "logs/pretrain_encoder/{scope}pretrain_encoder.log",
        benchmark:
            "logs/benchmarks/pretrain_encoder/{scope}pretrain_encoder.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            **GPU,
            mem_mb=by_attempt(4000),
            runtime=by_attempt(240),
        params:
            fold=fold_option,
            settings=settings("pretrain-encoder"),
            source=source("pretrain-encoder"),
        message:
            "Encoder of H-CLMP(T): training on density of states"
        shell:
            "hclmp pretrain-encoder {params.fold} --threads {threads} > {log} 2>&1"
