rule train:
    input:
        inputs("train"),
    output:
        **outputs("train", "{variant}", "{fold}"),
    log:
        "logs/train/{variant}.{fold}.log",
    benchmark:
        "logs/benchmarks/train/{variant}.{fold}.tsv"
    wildcard_constraints:
        variant="|".join([] if BATCHES else SETTINGS.neural) or "(?!)",
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
        settings=settings("train"),
        source=source("train"),
    message:
        "Training {wildcards.variant} with fold {wildcards.fold} held out"
    shell:
        "hclmp train --variant {wildcards.variant} --fold {wildcards.fold}"
        " --threads {threads} > {log} 2>&1"


use rule train as train_baseline with:
    output:
        predictions=outputs("train", "{variant}", "{fold}")["predictions"],
        settings=outputs("train", "{variant}", "{fold}")["settings"],
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
for number, (variants, folds) in enumerate(BATCHES, start=1):

    rule:
        name:
            f"train_batch_{number}"
        input:
            lambda wildcards, folds=folds: sorted(
                {
                    f
                    for fold in folds
                    for f in read_by("train", wildcards.variant, fold)
                }
            ),
        output:
            [f for fold in folds for f in outputs("train", "{variant}", fold).values()],
        log:
            f"logs/train/{{variant}}.batch_{number}.log",
        benchmark:
            f"logs/benchmarks/train/{{variant}}.batch_{number}.tsv"
        wildcard_constraints:
            variant="|".join(variants) or "(?!)",
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
                settings_of("train", wildcards.variant, fold) for fold in folds
            ],
            source=source("train"),
        message:
            f"Training {{wildcards.variant}} with each of {len(folds)} folds held out"
        shell:
            "hclmp train --variant {wildcards.variant} {params.folds}"
            " --threads {threads} > {log} 2>&1"
