rule train:
    input:
        targets="data/processed/targets.parquet",
        features=FEATURES,
        encoder=lambda wildcards: encoders(wildcards.variant, [wildcards.fold]),
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
        variant="|".join([] if BATCHES else NEURAL) or "(?!)",
    # Neural variants take longest: first, so that no core waits for a straggler at the end.
    priority: 1
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **GPU,
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


# Folds that train as one model: a rule for each batch, whose files are those of all its folds.
for number, folds in enumerate(BATCHES, start=1):

    rule:
        name:
            f"train_batch_{number}"
        input:
            targets="data/processed/targets.parquet",
            features=expand(FEATURES, fold=folds) if PER_FOLD else FEATURES,
            encoder=lambda wildcards, folds=folds: encoders(wildcards.variant, folds),
        output:
            expand(
                [
                    "results/models/{{variant}}/{fold}/model.safetensors",
                    "results/models/{{variant}}/{fold}/model.json",
                    "results/models/{{variant}}/{fold}/history.csv",
                    "results/predictions/{{variant}}/{fold}.parquet",
                ],
                fold=folds,
            ),
        log:
            f"logs/train/{{variant}}.batch_{number}.log",
        benchmark:
            f"logs/benchmarks/train/{{variant}}.batch_{number}.tsv"
        wildcard_constraints:
            variant="|".join(NEURAL) or "(?!)",
        priority: 1
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            **GPU,
            mem_mb=by_attempt(3000 + 1000 * len(folds)),
            runtime=by_attempt(180 + 60 * len(folds)),
        params:
            folds=[f"--fold {fold}" for fold in folds],
            settings=lambda wildcards, folds=folds: [
                as_parameter(train_slice(SETTINGS, wildcards.variant, fold))
                for fold in folds
            ],
            source=source_hash("train"),
        message:
            f"Training {{wildcards.variant}} with each of {len(folds)} folds held out"
        shell:
            "hclmp train --variant {wildcards.variant} {params.folds}"
            " --threads {threads} > {log} 2>&1"
