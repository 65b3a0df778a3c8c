rule report:
    input:
        [str(file) for file in report_inputs(SETTINGS).values()],
    output:
        report(
            "results/report.html",
            caption="../report/page.rst",
            category="Results",
            labels={"what": "the page of results"},
        ),
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
        settings=as_parameter(report_slice(SETTINGS)),
        source=source_hash("report"),
    message:
        "The page of results"
    shell:
        "hclmp report > {log} 2>&1"
