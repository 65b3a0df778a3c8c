rule train:
    input:
        targets="data/processed/targets.parquet",
        features=FEATURES,
        encoder=lambda wildcards: (
            ENCODER if SETTINGS.starts_pretrained(wildcards.variant) else []
        ),
    output:
        weights="results/models/{variant}/{fold}/model.safetensors",
        settings="results/models/{variant}/{fold}/model.json",
        history="results/models/{variant}/{fold}/history.csv",
        predictions="results/predictions/{variant}/{fold}.parquet",
    log:
        "logs/train/{variant}.{fold}.log",
    benchmark:
        "logs/benchmarks/train/{variant}.{fold}.tsv"
    wildcard_constraints:
        variant="|".join(NEURAL) or "(?!)",
    # Neural variants take longest: first, so that no core waits for a straggler at the end.
    priority: 1
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(240),
    params:
        settings=lambda wildcards: as_parameter(
            train_slice(SETTINGS, wildcards.variant, wildcards.fold)
        ),
        source=source_hash("train"),
    message:
        "Training {wildcards.variant} with fold {wildcards.fold} held out"
    shell:
        "hclmp train --variant {wildcards.variant} --fold {wildcards.fold}"
        " --threads {threads} > {log} 2>&1"


use rule train as train_baseline with:
    output:
        settings="results/models/{variant}/{fold}/model.json",
        predictions="results/predictions/{variant}/{fold}.parquet",
    wildcard_constraints:
        variant="|".join(BASELINES) or "(?!)",
    priority: 0
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(120),
        in_turn=1,  # in a group of jobs: workflow/profiles/slurm
    message:
        "Fitting {wildcards.variant} with fold {wildcards.fold} held out"
