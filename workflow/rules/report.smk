rule report:
    input:
        inputs("report"),
    output:
        in_report(outputs("report")["page"], "Results", "page"),
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        settings=settings("report"),
        source=source("report"),
    message:
        "The page of results"
    shell:
        "hclmp report > {log} 2>&1"
